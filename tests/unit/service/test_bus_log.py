"""What the log says of a connection to NATS."""

from __future__ import annotations

from structlog.testing import capture_logs

from hogsend.contract.errors import Forbidden
from hogsend.service.bus_log import MOST_REFUSALS, BusLog
from hogsend.service.metrics import BUS_CONNECTED

REFUSAL = 'Error: nats: permissions violation for publish to "hogsend.rpc.x.{}"'


def test_what_nats_refuses_is_said_once_with_what_to_do_until_another_server_is_asked() -> None:
    bus = BusLog()
    with capture_logs() as logged:
        for _ in range(3):
            bus.observe("error", REFUSAL.format("a"))
            bus.observe("error", REFUSAL.format("b"))
    assert [(one["detail"], one["fix"]) for one in logged] == [
        (REFUSAL.format(subject), Forbidden.fix) for subject in "ab"
    ]
    bus.observe("disconnected", "")
    bus.observe("reconnected", "nats://other")
    with capture_logs() as logged:
        bus.observe("error", REFUSAL.format("a"))
    assert len(logged) == 1


def test_what_was_granted_again_is_said_when_it_is_refused_once_more() -> None:
    bus = BusLog()
    bus.observe("error", REFUSAL.format("a"))
    with capture_logs() as logged:
        bus.observe("subscribed again", "")
        bus.observe("error", REFUSAL.format("a"))
    assert [one["log_level"] for one in logged] == ["info", "warning"]


def test_refusals_that_are_others_each_time_do_not_fill_the_log() -> None:
    bus = BusLog()
    with capture_logs() as logged:
        for number in range(2 * MOST_REFUSALS):
            bus.observe("error", REFUSAL.format(number))
    assert len(logged) == MOST_REFUSALS


def test_any_other_error_is_said_each_time() -> None:
    bus = BusLog()
    with capture_logs() as logged:
        for _ in range(2):
            bus.observe("error", "UnexpectedEOF: nats: unexpected EOF")
    assert [one["log_level"] for one in logged] == ["warning"] * 2


def test_only_a_change_of_state_says_whether_there_is_a_connection() -> None:
    bus = BusLog()
    bus.observe("disconnected", "")
    with capture_logs() as logged:
        bus.observe("consumer", "x of EVENTS is forgotten later")
    assert BUS_CONNECTED._value.get() == 0
    assert [(one["what"], one["detail"]) for one in logged] == [
        ("consumer", "x of EVENTS is forgotten later")
    ]
    bus.observe("reconnected", "nats://other")
    assert BUS_CONNECTED._value.get() == 1

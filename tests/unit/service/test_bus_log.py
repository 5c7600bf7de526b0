"""What is logged about the connection to NATS."""

from __future__ import annotations

from structlog.testing import capture_logs

from hogsend.contract.errors import Forbidden
from hogsend.service.bus_log import MAX_LOGGED_REFUSALS, BusLog
from hogsend.service.metrics import BUS_CONNECTED

REFUSAL = 'Error: nats: permissions violation for publish to "hogsend.rpc.x.{}"'


def test_a_permission_error_is_logged_once_with_its_fix_until_the_next_connection() -> None:
    bus = BusLog()
    with capture_logs() as logged:
        for _ in range(3):
            bus.observe("error", REFUSAL.format("a"))
            bus.observe("error", REFUSAL.format("b"))
    assert [(line["detail"], line["fix"]) for line in logged] == [
        (REFUSAL.format(subject), Forbidden.fix) for subject in "ab"
    ]
    bus.observe("disconnected", "")
    bus.observe("reconnected", "nats://other")
    with capture_logs() as logged:
        bus.observe("error", REFUSAL.format("a"))
    assert len(logged) == 1


def test_a_permission_error_is_logged_again_after_a_new_subscription() -> None:
    bus = BusLog()
    bus.observe("error", REFUSAL.format("a"))
    with capture_logs() as logged:
        bus.observe("subscribed again", "")
        bus.observe("error", REFUSAL.format("a"))
    assert [one["log_level"] for one in logged] == ["info", "warning"]


def test_different_permission_errors_do_not_fill_the_log() -> None:
    bus = BusLog()
    with capture_logs() as logged:
        for number in range(2 * MAX_LOGGED_REFUSALS):
            bus.observe("error", REFUSAL.format(number))
    assert len(logged) == MAX_LOGGED_REFUSALS


def test_any_other_error_is_logged_each_time() -> None:
    bus = BusLog()
    with capture_logs() as logged:
        for _ in range(2):
            bus.observe("error", "UnexpectedEOF: nats: unexpected EOF")
    assert [one["log_level"] for one in logged] == ["warning"] * 2


def test_only_a_change_of_state_sets_the_connected_metric() -> None:
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

"""Which settled places are remembered, and which event id an outcome has."""

from __future__ import annotations

from structlog.testing import capture_logs

from hogsend.contract.engagement import engagement_message_id, read_engagement
from hogsend.contract.errors import Unavailable
from hogsend.service.metrics import FAILURES
from services.analytics.delivery.metrics import SETTLED
from services.analytics.delivery.settlement import RecentPlaces, Settlement, outcome_of
from tests.unit.analytics.delivery_fakes import QUEUED_AT, FakeMessage, FakeSource

SUBJECT = "hogsend.engagement.email.opened"


def test_recent_places_contain_the_newest_ones() -> None:
    recent = RecentPlaces(3)
    for position in (1, 2, 3, 3, 4):
        recent.add((position, QUEUED_AT))
    assert [position for position in range(6) if (position, QUEUED_AT) in recent] == [2, 3, 4]


def recorded_id(message: FakeMessage) -> str:
    return outcome_of(message, "delivered", attempts=1).event_id


def test_an_outcome_has_the_event_id_of_the_message() -> None:
    """A position does not identify an event: a recreated stream has the same positions again."""
    body = b'{"data":{"to":"a@b.com"},"id":"open-1"}'
    published = FakeMessage(7, SUBJECT, body, {"Nats-Msg-Id": "m-1"})
    assert recorded_id(published) == "m-1"
    by_another_client = FakeMessage(7, SUBJECT, body)
    report = read_engagement(SUBJECT, {}, body, 7, QUEUED_AT)
    assert recorded_id(by_another_client) == engagement_message_id(report)
    assert recorded_id(by_another_client).endswith(":open-1")
    assert recorded_id(FakeMessage(7, SUBJECT, b"rubbish")) == "7"


async def test_settled_events_are_counted_by_their_outcome_and_other_messages_are_not() -> None:
    source = FakeSource([])
    settled = SETTLED.labels(source.name, source.destination_id, "delivered")._value
    before = settled.get()
    settlement = Settlement(source)
    await settlement.settle([FakeMessage(1), FakeMessage(2)], "delivered")
    # A message that became no event, such as one that was settled before.
    await settlement.settle([FakeMessage(3)])
    assert settled.get() == before + 2


async def test_lost_acknowledgements_are_counted_each_and_logged_once() -> None:
    failures = FAILURES.labels("delivery_ack", Unavailable.code)._value
    before = failures.get()
    messages = [FakeMessage(position, broken=True) for position in (1, 2)]
    settlement = Settlement(FakeSource([]))
    with capture_logs() as logs:
        await settlement.settle([*messages, FakeMessage(3)], "delivered")
    assert [line["event"] for line in logs] == ["not acknowledged"]
    assert failures.get() == before + 2
    assert all(settlement.is_settled(message) for message in messages)


async def test_a_nak_that_cannot_be_sent_is_counted_and_raises_no_error() -> None:
    failures = FAILURES.labels("delivery_ack", Unavailable.code)._value
    before = failures.get()
    await Settlement(FakeSource([])).nak(FakeMessage(1, broken=True))
    assert failures.get() == before + 1

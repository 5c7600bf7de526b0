"""Which settled places are remembered, and which event id an outcome has."""

from __future__ import annotations

from hogsend.contract.engagement import engagement_message_id, read_engagement
from services.analytics.delivery.settlement import RecentPlaces, outcome_of
from tests.unit.analytics.delivery_fakes import QUEUED_AT, FakeMessage

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

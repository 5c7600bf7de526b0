"""One message id for one event, and another for every other."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hogsend.contract.engagement import Engagement, engagement_message_id
from hogsend.contract.headers import event_message_id

PARTS = {"source": "posthog", "id": "0190-a", "event": "signed_up", "user_id": "u_42"}


def test_it_ends_in_the_id() -> None:
    assert event_message_id(**PARTS).endswith(":0190-a")
    assert event_message_id(**PARTS) == event_message_id(**PARTS)


@pytest.mark.parametrize("part", PARTS)
def test_each_part_counts(part: str) -> None:
    assert event_message_id(**{**PARTS, part: "other"}) != event_message_id(**PARTS)


def test_parts_are_not_run_together() -> None:
    one = event_message_id(source="s", id="i", event="ab", user_id="c")
    assert one != event_message_id(source="s", id="i", event="a", user_id="bc")


@given(st.text(), st.text(), st.text())
def test_it_can_always_travel_in_a_header(id: str, event: str, user_id: str) -> None:
    made = event_message_id(source="s", id=id, event=event, user_id=user_id)
    assert made.isascii()
    assert made.isprintable()


def test_an_open_and_a_click_of_one_mail_are_two_messages() -> None:
    def of(type: str, to: str) -> str:
        data = {"to": to}
        now = datetime(2026, 1, 1, tzinfo=UTC)
        return engagement_message_id(Engagement(id="m-1", type=type, timestamp=now, data=data))

    ids = [of("email.opened", "a@b.c"), of("email.clicked", "a@b.c"), of("email.opened", "x@b.c")]
    assert len(set(ids)) == 3
    assert ids[0] == of("email.opened", "a@b.c")


def test_reports_of_two_addresses_are_two_messages_where_the_user_id_names_nobody() -> None:
    def of(**data: str) -> str:
        now = datetime(2026, 1, 1, tzinfo=UTC)
        opened = Engagement(id="m-1", type="email.opened", timestamp=now, data={**data})
        return engagement_message_id(opened)

    assert of(userId="null", to="a@b.c") == of(to="a@b.c") != of(userId="null", to="x@b.c")
    assert of(userId="u_1", to="a@b.c") == of(userId="u_1")
    assert of(userId="null") != of(userId="undefined")

"""Message ids: the same event always has the same id, and different events have different ids."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hogsend.contract.engagement import Engagement, engagement_message_id
from hogsend.contract.headers import event_message_id

PARTS = {"source": "posthog", "id": "0190-a", "event": "signed_up", "user_id": "u_42"}


def test_a_message_id_ends_with_the_id_of_the_event() -> None:
    assert event_message_id(**PARTS).endswith(":0190-a")
    assert event_message_id(**PARTS) == event_message_id(**PARTS)


@pytest.mark.parametrize("part", PARTS)
def test_a_message_id_depends_on_each_part(part: str) -> None:
    assert event_message_id(**{**PARTS, part: "other"}) != event_message_id(**PARTS)


def test_parts_that_concatenate_to_the_same_text_have_different_message_ids() -> None:
    first = event_message_id(source="s", id="i", event="ab", user_id="c")
    assert first != event_message_id(source="s", id="i", event="a", user_id="bc")


@given(st.text(), st.text(), st.text())
def test_a_message_id_is_always_printable_ascii_as_a_header_requires(
    id: str, event: str, user_id: str
) -> None:
    message_id = event_message_id(source="s", id=id, event=event, user_id=user_id)
    assert message_id.isascii()
    assert message_id.isprintable()


def test_an_open_and_a_click_of_one_mail_have_different_message_ids() -> None:
    def message_id(type: str, to: str) -> str:
        data = {"to": to}
        now = datetime(2026, 1, 1, tzinfo=UTC)
        return engagement_message_id(Engagement(id="m-1", type=type, timestamp=now, data=data))

    ids = [
        message_id("email.opened", "a@b.c"),
        message_id("email.clicked", "a@b.c"),
        message_id("email.opened", "x@b.c"),
    ]
    assert len(set(ids)) == 3
    assert ids[0] == message_id("email.opened", "a@b.c")


def test_the_address_counts_in_a_message_id_when_the_user_id_is_a_placeholder() -> None:
    def message_id(**data: str) -> str:
        now = datetime(2026, 1, 1, tzinfo=UTC)
        opened = Engagement(id="m-1", type="email.opened", timestamp=now, data={**data})
        return engagement_message_id(opened)

    first = message_id(userId="null", to="a@b.c")
    assert first == message_id(to="a@b.c") != message_id(userId="null", to="x@b.c")
    assert message_id(userId="u_1", to="a@b.c") == message_id(userId="u_1")
    assert message_id(userId="null") != message_id(userId="undefined")

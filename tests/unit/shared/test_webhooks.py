"""Webhooks: the id of an event, and whether the event identifies a person."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hogsend.contract.webhooks import PostHogEvent, PostHogWebhook


def webhook(person: Any = None, **event: Any) -> PostHogWebhook:
    return PostHogWebhook(PostHogEvent(**{"event": "e", "distinct_id": "d", **event}), person)


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def test_the_uuid_of_an_event_is_its_id() -> None:
    assert webhook(uuid="0190-a.b:c_D").event_id == "0190-a.b:c_D"
    assert webhook(uuid="x" * 128).event_id == "x" * 128


@pytest.mark.parametrize("uuid", [None, ""])
def test_an_event_without_a_uuid_has_no_id(uuid: str | None) -> None:
    assert webhook(uuid=uuid).event_id is None


@pytest.mark.parametrize("uuid", ["a\r\nNats-Msg-Id: b", "x" * 129, "ü", " ", "a b", "a\n"])
def test_a_uuid_that_a_header_cannot_carry_is_replaced_by_its_digest(uuid: str) -> None:
    assert webhook(uuid=uuid).event_id == digest(uuid.encode())


@given(st.text(min_size=1, max_size=300))
def test_the_id_of_an_event_is_always_safe_in_a_header(uuid: str) -> None:
    id = webhook(uuid=uuid).event_id
    assert id is not None
    assert id.isascii()
    assert id.isprintable()
    assert len(id) <= 128


@pytest.mark.parametrize(
    ("distinct_id", "email", "has_identity"),
    [
        ("d", None, True),
        ("d", "a@b.c", True),
        ("", "a@b.c", True),
        (" ", " A@B.c ", True),
        ("", None, False),
        (" \t", "", False),
        ("", " ", False),
        ("", 7, False),
    ],
)
def test_an_event_has_an_identity_if_its_distinct_id_or_email_is_not_blank(
    distinct_id: str, email: Any, has_identity: bool
) -> None:
    person = {"properties": {"email": email}}
    assert webhook(person, distinct_id=distinct_id).has_identity is has_identity

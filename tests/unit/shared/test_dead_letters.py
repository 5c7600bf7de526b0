"""A dead letter whose message is too large for JSON keeps the message and its id."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from hogsend.contract.dead_letters import DeadLetter, read_letter, write_large_letter
from hogsend.contract.headers import MESSAGE_ID, ORIGINAL_ID, message_id

BODY = b"\x00 not JSON \xff" * 100


def letter(**headers: str) -> DeadLetter:
    return DeadLetter(
        id="WEBHOOKS:7",
        stream="WEBHOOKS",
        subject="hogsend.webhooks.posthog",
        reason="malformed",
        detail="not JSON",
        attempts=1,
        failed_at=datetime(2026, 1, 1, tzinfo=UTC),
        headers=headers,
        body=BODY,
    )


@pytest.mark.parametrize("compressed", [False, True])
def test_a_large_letter_is_read_as_it_was_written(compressed: bool) -> None:
    whole = letter(**{MESSAGE_ID: "d-1"})
    written = write_large_letter(whole, compressed=compressed)
    assert read_letter(written.headers, written.body) == whole
    # Uncompressed, other programs can read the message as it was.
    assert (written.body == BODY) is not compressed


def test_a_message_id_that_does_not_fit_with_the_other_headers_is_kept() -> None:
    """A replay under another id would be stored as another event."""
    given = {MESSAGE_ID: "replay:7", ORIGINAL_ID: "d" * 40_000, "X-Other": "x" * 40_000}
    whole = letter(**given)
    written = write_large_letter(whole, compressed=False)
    headers = read_letter(written.headers, written.body).headers
    assert message_id(headers) == message_id(given) != message_id({MESSAGE_ID: "replay:7"})
    assert "X-Other" not in headers

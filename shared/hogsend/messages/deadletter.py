"""Messages that could not be processed, kept whole so that they can be inspected and replayed."""

from __future__ import annotations

from datetime import datetime

from hogsend.messages.base import Message


class DeadLetter(Message, frozen=True):
    """One message that was taken off its stream because no retry would have helped."""

    id: str
    stream: str
    subject: str
    reason: str
    """Stable code, for example `malformed` or `rejected_by_database`."""
    detail: str
    attempts: int
    failed_at: datetime
    headers: dict[str, str]
    body: bytes
    """The original message, base64 on the wire."""

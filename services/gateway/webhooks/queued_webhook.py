"""A webhook on its way to JetStream."""

from __future__ import annotations

import msgspec

from hogsend.transport.publisher import OutgoingMessage


class QueuedWebhook(msgspec.Struct, frozen=True):
    """A webhook as it is published; JetStream deduplicates by `id`. Spool files hold it, too."""

    id: str
    subject: str
    headers: dict[str, str]
    body: bytes

    @property
    def message(self) -> OutgoingMessage:
        """The message as it is published."""
        return OutgoingMessage(self.subject, self.body, self.headers)

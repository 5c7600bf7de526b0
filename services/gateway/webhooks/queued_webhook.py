"""A webhook on its way to JetStream."""

from __future__ import annotations

import msgspec

from hogsend.transport.publisher import OutgoingMessage


class QueuedWebhook(msgspec.Struct, frozen=True):
    """A webhook as it is published and spooled. JetStream deduplicates it by `id`."""

    id: str
    subject: str
    headers: dict[str, str]
    body: bytes

    @property
    def message(self) -> OutgoingMessage:
        """The message to publish."""
        return OutgoingMessage(self.subject, self.body, self.headers)

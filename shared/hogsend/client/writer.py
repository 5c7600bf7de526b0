"""Writes messages for PostHog durably: JetStream has stored them when `write` returns."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from hogsend.contract.base import Message
from hogsend.contract.errors import InvalidRequest, TooLarge
from hogsend.contract.headers import message_headers
from hogsend.contract.json_text import MAX_DEPTH, NOT_JSON, encode_json, is_too_deep
from hogsend.transport.connection import Connection
from hogsend.transport.publisher import ACKNOWLEDGE_ALL_SECONDS


class Writer:
    """Checks and publishes messages, in the order of the calls."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def write(self, subject: str, id: str, message: Message) -> None:
        """Publish a message that JetStream deduplicates by `id`.

        Raises:
            InvalidRequest: the message cannot be encoded as JSON, violates its constraints, is
                nested too deeply, or is too large.
            Unavailable: NATS cannot be reached; the message may be written again.
        """
        try:
            body = encode_json(message)
            # msgspec checks constraints only when decoding. Here the error reaches the caller.
            msgspec.json.decode(body, type=type(message))
        except (*NOT_JSON, TypeError, ValueError) as error:
            raise InvalidRequest(str(error)) from error
        if is_too_deep(body):
            raise InvalidRequest(f"nested more than {MAX_DEPTH} deep")
        kind = type(message).__name__.lower()
        headers = message_headers(id=id, source="service", type=kind, time=datetime.now(UTC))
        # The deadline starts once there is a slot.
        async with self._connection.publisher.slots:
            try:
                await self._connection.publish(
                    subject, body, headers, within=ACKNOWLEDGE_ALL_SECONDS
                )
            except TooLarge as error:
                raise InvalidRequest(str(error)) from error

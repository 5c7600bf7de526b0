"""Writes messages for PostHog durably: they are in JetStream when `write` returns."""

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
            InvalidRequest: the message is no JSON, breaks its constraints, is nested too deeply, or
                is too large.
            Unavailable: the bus cannot be reached; the message may be written again.
        """
        try:
            body = encode_json(message)
            # Constraints count where messages are read; the writer should hear of them here.
            msgspec.json.decode(body, type=type(message))
        except (*NOT_JSON, TypeError, ValueError) as error:
            raise InvalidRequest(str(error)) from error
        if is_too_deep(body):
            raise InvalidRequest(f"nested more than {MAX_DEPTH} deep")
        kind = type(message).__name__.lower()
        headers = message_headers(id=id, source="service", type=kind, time=datetime.now(UTC))
        # A message's deadline begins when it is sent.
        async with self._connection.publisher.slots:
            try:
                await self._connection.publish(
                    subject, body, headers, within=ACKNOWLEDGE_ALL_SECONDS
                )
            except TooLarge as error:
                raise InvalidRequest(str(error)) from error

"""Engagement: what services did with people."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import msgspec

from hogsend.client.arguments import bag, moment, text
from hogsend.client.writer import Writer
from hogsend.contract import subjects
from hogsend.contract.engagement import CATALOG, Engagement, engagement_message_id
from hogsend.contract.errors import InvalidRequest
from hogsend.contract.json_text import encode_json


class EngagementClient:
    """What services did with people; made by `Client.engagement`."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def report(
        self,
        type: str,
        data: Mapping[str, Any],
        *,
        id: str | None = None,
        timestamp: datetime | None = None,
    ) -> str:
        """Report, for example, that an email was opened: recorded here, sent to destinations.

        Args:
            type: one of `hogsend.contract.engagement.CATALOG`.
            data: what happened, and with whom (`userId`, `to`, …), in the keys of the catalog. A
                report that names no person, as with `user_id`, is accepted, and becomes a dead
                letter (`hogsend dlq list`).
            id: the same for every repetition of one and the same thing; made up by default.
            timestamp: when it happened; now by default.

        Returns:
            The id.

        Raises:
            InvalidRequest: there is no such type, the id is no text, or the data is no JSON.
            Unavailable: NATS is unavailable; nothing was accepted.
        """
        if text("type", type) not in CATALOG:
            raise InvalidRequest(f"there is no engagement type {type!r}; see docs/engagement.md")
        message = Engagement(
            id=text("id", id) if id else f"msg_{uuid4()}",
            type=type,
            timestamp=moment(timestamp or datetime.now(UTC)),
            data=bag("data", data),
        )
        await self._writer.write(subjects.engagement(type), _message_id(message), message)
        return message.id


def _message_id(message: Engagement) -> str:
    try:
        return engagement_message_id(message)
    except UnicodeEncodeError:
        # Of what is sent, where nothing is cut within a character any more.
        return engagement_message_id(msgspec.json.decode(encode_json(message), type=Engagement))

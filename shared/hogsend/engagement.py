"""Interim reader."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from hogsend.messages import Engagement


class MalformedEngagement(ValueError):
    """Interim."""


def read_engagement(
    subject: str, headers: Mapping[str, str], body: bytes, sequence: int, time: datetime
) -> Engagement:
    """Interim."""
    try:
        raw: dict[str, Any] = msgspec.json.decode(body)
        return Engagement(
            id=raw.get("id") or headers.get("Nats-Msg-Id") or f"ENGAGEMENT:{sequence}",
            type=raw.get("type") or subject.removeprefix("hogsend.engagement."),
            timestamp=msgspec.convert(raw["timestamp"], datetime) if "timestamp" in raw else time,
            data=raw["data"],
        )
    except (msgspec.MsgspecError, KeyError, AttributeError) as error:
        raise MalformedEngagement(str(error)) from error

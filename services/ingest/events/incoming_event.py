"""What a webhook means, whichever source sent it."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import msgspec

from hogsend.contract.base import Properties


class EventRef(NamedTuple):
    """What makes an event one and the same: its source, and that source's id for it."""

    source: str
    id: str


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One event of one person, as its source reported it."""

    ref: EventRef
    event: str
    user_id: str
    """Distinct id as received; may be blank when there is an email."""
    email: str | None
    occurred_at: datetime
    """By the clock of whoever reported it (UTC)."""
    received_at: datetime
    """By the gateway's clock (UTC)."""
    properties: Properties
    person_properties: Properties
    correlation_id: str | None = None

    @property
    def effective_at(self) -> datetime:
        """When it counts as having happened; a clock in the future cannot outrank us for ever."""
        return min(self.occurred_at, self.received_at)


class Unprocessable(Exception):
    """No retry will help this message; `reason` is a stable code for the dead letter."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason

"""The outcome of storing an event."""

from __future__ import annotations

from enum import Enum
from typing import TypeAlias

import msgspec

from hogsend.service.dead_letters import Unprocessable


class Status(Enum):
    """Whether an event is in the database, and which message stored it."""

    STORED = "stored"
    """This call stored it."""
    REDELIVERED = "redelivered"
    """An earlier attempt to process the same message stored it, and may have ended after that."""
    ERASED = "erased"
    """It is not stored: it happened before its person was erased."""
    KNOWN = "known"
    """Another message with the same id stored it, which may be in the same batch."""


class Saved(msgspec.Struct, frozen=True):
    """An event that was processed; it is stored unless its status is `ERASED`."""

    status: Status
    contact_key: str
    """Canonical key of the contact that the event belongs to; empty without one."""


class Rejected(msgspec.Struct, frozen=True):
    """An event that PostgreSQL rejects."""

    why: Unprocessable


Outcome: TypeAlias = Saved | Rejected

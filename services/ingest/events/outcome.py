"""What the database made of an event."""

from __future__ import annotations

from enum import Enum
from typing import TypeAlias

import msgspec

from hogsend.service.dead_letters import Unprocessable


class Status(Enum):
    """How an event came to be in the database."""

    STORED = "stored"
    """By this call."""
    REDELIVERED = "redelivered"
    """By an earlier attempt to process this very message, which may have ended there."""
    ERASED = "erased"
    """Not at all: it happened before its person was erased."""
    KNOWN = "known"
    """By another message with the same id, which may be in the same batch."""


class Saved(msgspec.Struct, frozen=True):
    """An event that is in the database now."""

    status: Status
    contact_key: str
    """Canonical key of the contact that the event belongs to; empty without one."""


class Rejected(msgspec.Struct, frozen=True):
    """An event that the database does not take."""

    why: Unprocessable


Outcome: TypeAlias = Saved | Rejected

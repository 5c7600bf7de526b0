"""Ids like PostHog's: UUIDs of version 7, which start with their time (RFC 9562)."""

from __future__ import annotations

import secrets
import time
from uuid import UUID

_VERSION = 0x7 << 76
_VARIANT = 0b10 << 62


def new_id() -> str:
    """Generate an id with the present time."""
    milliseconds = time.time_ns() // 1_000_000
    middle, last = secrets.randbits(12) << 64, secrets.randbits(62)
    return str(UUID(int=milliseconds << 80 | _VERSION | middle | _VARIANT | last))

"""How long after it was read a person's data may be published without a check for an erasure."""

from __future__ import annotations

import asyncio

FRESH_SECONDS = 10.0
"""Data that was read longer ago is stale: check for an erasure, or read it again, then publish.

An erasure sweeps the streams every `SETTLE_SECONDS` (60), at least twice and until a sweep finds no
message. What was read before the erasure, or from a message that a sweep deleted, and is published
within this time, plus the publisher's own deadline, is in its stream before the next sweep, which
deletes it. What a process publishes later, for example because it was frozen (SIGSTOP), no sweep
would find: it would stay on the bus.
"""


def is_stale(read_at: float) -> bool:
    """Whether data that was read at `read_at`, in seconds on the event loop's clock, is stale."""
    return asyncio.get_running_loop().time() - read_at >= FRESH_SECONDS

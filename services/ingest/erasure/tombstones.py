"""What is left of the erased: digests that keep events from before the erasure away."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import aiosql

from services.ingest.contacts.contact import Key
from services.ingest.contacts.identity_resolution import keys_of
from services.ingest.incoming_event import IncomingEvent

_queries: Any = aiosql.from_path(Path(__file__).with_name("queries.sql"), "asyncpg")


async def erased_among(connection: Any, digests: Mapping[Key, bytes]) -> dict[Key, datetime]:
    """Those keys that belonged to somebody erased, and when that was.

    Ask once the keys' contacts are locked: an erasure locks its contact first.
    """
    keys = list(digests)
    found = _queries.erased(
        connection, kinds=[key.kind for key in keys], digests=list(digests.values())
    )
    return {keys[row["position"] - 1]: row["erased_at"] async for row in found}


def is_erased(event: IncomingEvent, erased: Mapping[Key, datetime]) -> bool:
    """Whether an event happened before its person was erased: a repeat, or one that came late."""
    if not erased:
        return False
    return any(event.effective_at <= erased[key] for key in keys_of(event) if key in erased)

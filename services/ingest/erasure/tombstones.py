"""What is left of the erased: digests that keep events from before the erasure away."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from services.ingest.contacts.contact import Key
from services.ingest.contacts.identity_resolution import keys_of
from services.ingest.incoming_event import IncomingEvent


def is_erased(event: IncomingEvent, erased: Mapping[Key, datetime]) -> bool:
    """Whether an event happened before its person was erased: a repeat, or one that came late."""
    if not erased:
        return False
    return any(event.effective_at <= erased[key] for key in keys_of(event) if key in erased)

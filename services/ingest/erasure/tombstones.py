"""Digests of erased people's keys: an event from before the erasure is recognised and dropped."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from services.ingest.contacts.contact import Key
from services.ingest.contacts.identity_resolution import keys_of
from services.ingest.incoming_event import IncomingEvent


def is_erased(event: IncomingEvent, erased: Mapping[Key, datetime]) -> bool:
    """Whether an event happened before its person was erased: it is repeated, or arrived late.

    Args:
        event: an incoming event.
        erased: when the owners of erased keys were erased, by key.
    """
    if not erased:
        return False
    return any(event.effective_at <= erased[key] for key in keys_of(event) if key in erased)

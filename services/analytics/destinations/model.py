"""A destination and its settings (contract 6.1 and 6.3)."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from hogsend.messages.destinations import DestinationKind


class DestinationConfig(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How a destination maps and where it captures."""

    api_key: str | None = None
    """Its own project key; without, the instance's."""
    host: str | None = None
    event_names: dict[str, str] = {}
    sync_persons: Any = None
    """Kept as given; only a literal true counts."""
    unsubscribed_property_key: str | None = None

    @property
    def syncs_persons(self) -> bool:
        """Whether contact changes travel."""
        return self.sync_persons is True

    def __repr__(self) -> str:
        """Hide the key."""
        return f"DestinationConfig(host={self.host!r})"


class Destination(msgspec.Struct, frozen=True, kw_only=True):
    """A destination as it is stored."""

    id: UUID
    url: str
    kind: DestinationKind
    description: str | None
    event_types: list[str]
    config: DestinationConfig
    disabled: bool
    seeded: bool
    last_delivery_at: datetime | None
    created_at: datetime
    updated_at: datetime

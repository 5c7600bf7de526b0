"""Names of the durable consumers of destinations."""

from __future__ import annotations

from uuid import UUID

PREFIX = "destination-"


def destination_durable(destination: UUID) -> str:
    """Return the name of a destination's durable consumer."""
    return f"{PREFIX}{destination}"

"""The name of a destination's durable consumer."""

from __future__ import annotations

from uuid import UUID

PREFIX = "destination-"


def destination_durable(destination: UUID) -> str:
    """Name of a destination's durable consumer."""
    return f"{PREFIX}{destination}"

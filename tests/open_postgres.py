"""An embedded PostgreSQL that asks for no password, as that of 0.1.0 did."""

from __future__ import annotations

from pathlib import Path

from cli.stack.postgres import EmbeddedPostgres


class OpenPostgres(EmbeddedPostgres):
    """Stays as it is at the beginning of each start: its superuser's, without roles of services."""

    def __init__(self, data: Path) -> None:
        super().__init__(data, lambda _name: "nobody-asks")

    async def _close(self) -> None:
        """Leave it open."""

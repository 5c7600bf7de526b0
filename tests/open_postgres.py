"""An embedded PostgreSQL that requires no password, like that of Hogsend 0.1.0."""

from __future__ import annotations

from pathlib import Path

from cli.stack.postgres import EmbeddedPostgres


class OpenPostgres(EmbeddedPostgres):
    """Skips the step that creates the services' roles and requires passwords.

    Connections log in as the superuser.
    """

    def __init__(self, data: Path) -> None:
        super().__init__(data, lambda _name: "nobody-asks")

    async def _secure(self) -> None:
        """Do nothing, so that no password is required."""

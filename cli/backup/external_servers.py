"""Restore of a local stack's backup into external servers of NATS and PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
from nats.aio.client import Client

from cli.backup import external_postgres, postgres_tools
from cli.backup.archive import Kind
from cli.backup.local_files import SECRETS, restore_marks
from cli.errors import CommandError
from cli.operator_bus import operator_bus
from cli.stack.data_directory import write_private
from hogsend.service.settings.shared import BusSettings


class ExternalServersTarget:
    """Empty external servers, those in `NATS_URL` and `DATABASE_URL`."""

    kind: Kind = "local"

    def __init__(self, home: Path, nats_url: str, database_url: str) -> None:
        """Restore to these servers, and the secrets into the data directory `home`."""
        self._home = home.expanduser().resolve()
        self._secrets = self._home / SECRETS
        # Inside `home`, which must be writable for the secrets; its parent need not be.
        self.work = self._home / "restore.opened"
        self._nats_url = nats_url
        self._database_url = database_url
        self.notes: list[str] = []
        """Notes for the operator."""

    def require_empty(self) -> None:
        """Check that the database has no schema of Hogsend; `servers` checks NATS later.

        Raises:
            CommandError: it has one, or PostgreSQL does not respond.
        """
        try:
            schemas = asyncio.run(_existing_schemas(self._database_url))
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise CommandError(
                "PostgreSQL at DATABASE_URL does not respond, or refuses the password",
                "start it, or correct DATABASE_URL",
            ) from error
        if schemas:
            raise CommandError(
                f"the database has schemas of Hogsend already: {', '.join(schemas)}",
                "restore into an empty database, before any service is started",
            )

    def restore_files(self, files: Path) -> None:
        """Write the missing secrets and marker files; existing secrets are kept."""
        for saved in (files / SECRETS).rglob("*"):
            file = self._secrets / saved.relative_to(files / SECRETS)
            if not saved.is_file():
                continue
            if not file.exists():
                file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                write_private(file, saved.read_bytes())
            elif file.read_bytes() != saved.read_bytes():
                self.notes.append(f"{file} was left unchanged; the backup has another one")
        restore_marks(files, self._home)

    @asynccontextmanager
    async def servers(self) -> AsyncIterator[Client]:
        """Connect to NATS as the operator, and check that it has no streams.

        Raises:
            CommandError: it has some.
        """
        async with operator_bus(self._nats_url) as connection:
            client = connection.client
            if (await client.jetstream().account_info()).streams:
                raise CommandError(
                    "NATS has streams already",
                    "restore into a NATS without streams, before any service is started",
                )
            yield client

    def copies(self) -> int | None:
        """Return NATS_REPLICAS."""
        return BusSettings().stream_limits.replicas

    def load(self, dump: Path) -> None:
        """Load a dump into PostgreSQL."""
        external_postgres.restore(dump, self._database_url)

    def analyze(self) -> None:
        """Make PostgreSQL gather statistics."""
        postgres_tools.run(postgres_tools.ANALYZE, self._database_url)


async def _existing_schemas(url: str) -> list[str]:
    connection = await asyncpg.connect(url, timeout=10)
    try:
        return [row[0] for row in await connection.fetch(postgres_tools.EXISTING)]
    finally:
        await connection.close()

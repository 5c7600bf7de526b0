"""Backup of a running deployment with Compose, and restore into empty volumes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from nats.aio.client import Client

from cli import environment
from cli.backup import postgres_tools
from cli.backup.archive import Kind
from cli.deployment import ownership, servers
from cli.deployment.compose import Compose
from cli.deployment.env_file import EnvFile
from cli.deployment.layout import Layout
from cli.errors import CommandError
from cli.stack.data_directory import write_private

SETTINGS = "env"
SECRETS = "secrets"
_AS_POSTGRES = ("exec", "-T", "postgres")
_DATABASE = ("--username=postgres", "--dbname=hogsend")
READY_ATTEMPTS = 120
_PROJECT = "COMPOSE_PROJECT_NAME"
"""Compose's name of a deployment, by which it finds the containers and volumes."""


class ComposeSource:
    """A running deployment to back up."""

    kind: Kind = "compose"

    def __init__(self, compose: Compose) -> None:
        """Back up the deployment of `compose`."""
        self._compose = compose

    @asynccontextmanager
    async def operator(self) -> AsyncIterator[Client]:
        """Connect to NATS as the operator.

        Raises:
            CommandError: the services use an external NATS or PostgreSQL.
        """
        ownership.require_nats(self._compose)
        ownership.require_postgres(self._compose)
        async with servers.operator(self._compose) as client:
            yield client

    async def gateways(self) -> Sequence[str]:
        """Return the URLs of the gateway, and of the second one if it runs."""
        running = await asyncio.to_thread(self._compose.running)
        names = ["gateway", *(name for name in running if name == "gateway-2")]
        return [await asyncio.to_thread(self._address, name) for name in names]

    def _address(self, gateway: str) -> str:
        try:
            return f"http://{self._compose.published(gateway, 3002)}"
        except CommandError:
            # It does not run. The empty address makes the content of its spool unknown.
            return ""

    def dump(self, file: Path) -> None:
        """Write a dump with pg_dump in the container, which has the server's version."""
        with file.open("wb") as output:
            file.chmod(0o600)
            self._compose.run(*_AS_POSTGRES, *postgres_tools.DUMP, *_DATABASE, stdout=output)

    def files(self) -> Mapping[str, Path]:
        """Return the files in deploy/secrets, and `.env`."""
        secrets = self._compose.secrets
        files = {
            f"{SECRETS}/{file.relative_to(secrets)}": file
            for file in secrets.rglob("*")
            if file.is_file()
        }
        if self._compose.env_file.path.is_file():
            files[SETTINGS] = self._compose.env_file.path
        return files


class ComposeTarget:
    """A deployment to restore to, without secrets and volumes."""

    kind: Kind = "compose"

    def __init__(self, compose: Compose) -> None:
        """Restore the deployment of `compose`."""
        self._compose = compose
        self.work = compose.secrets.with_name(f"{compose.secrets.name}.opened")
        self.notes: list[str] = []
        """Notes for the operator."""

    def require_empty(self) -> None:
        """Check that none of its containers run. `servers` checks the volumes later.

        Raises:
            CommandError: some run.
        """
        if running := self._compose.running():
            raise CommandError(
                f"services of this deployment are running: {', '.join(running)}",
                "restore on an empty machine, or stop them first with `docker compose down`",
            )

    def restore_files(self, files: Path) -> None:
        """Copy the secrets and `.env` to their places.

        Raises:
            CommandError: a file exists with another content, or another deployment has the name
                that the restored `.env` sets.
        """
        self._require_free_name(files / SETTINGS)
        restored = {
            self._compose.secrets / file.relative_to(files / SECRETS): file
            for file in (files / SECRETS).rglob("*")
            if file.is_file()
        }
        if (files / SETTINGS).exists():
            restored[self._compose.env_file.path] = files / SETTINGS
        for file, saved in restored.items():
            if file.exists() and file.read_bytes() not in {b"", saved.read_bytes()}:
                raise CommandError(
                    f"{file} exists and differs from the one in the backup",
                    "restore on an empty machine, or first move .env and deploy/secrets to another "
                    "place",
                )
        self._compose.secrets.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._compose.secrets.chmod(0o700)
        for file, saved in restored.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            write_private(file, saved.read_bytes())
            if file != self._compose.env_file.path:
                # World-readable, as generate_secrets.py writes them, because containers run as
                # other users. The directory keeps other users of the machine out.
                file.chmod(0o444)

    @asynccontextmanager
    async def servers(self) -> AsyncIterator[Client]:
        """Start NATS and PostgreSQL, and check that both are empty.

        Raises:
            CommandError: one of them has data.
        """
        self._compose.run("up", "-d", *self._layout.servers, "postgres")
        self._require_empty_database()
        async with servers.operator(self._compose) as client:
            if (await client.jetstream().account_info()).streams:
                raise _not_empty("NATS")
            yield client

    def _require_free_name(self, settings: Path) -> None:
        """Check that the `.env` of the backup does not have the name of another deployment.

        Otherwise Compose would replace the other deployment's containers, and use its volumes.
        """
        name = EnvFile(settings).values().get(_PROJECT)
        if not name or environment.without_file().get(_PROJECT):
            return
        if name == self._compose.env_file.values().get(_PROJECT):
            # This deployment has that name already.
            return
        if services := self._compose.services_of(name):
            raise CommandError(
                f"another deployment has the name {name}, which {_PROJECT} in the backup's .env "
                f"sets; its services: {', '.join(services)}",
                f"restore on an empty machine, or under another name: set {_PROJECT} in the "
                "environment of this command and of every later one",
            )

    def copies(self) -> int | None:
        """Return the number of NATS servers of the layout."""
        return self._layout.copies

    def load(self, dump: Path) -> None:
        """Load a dump with pg_restore in the container, which has the server's version."""
        with dump.open("rb") as content:
            self._compose.run(*_AS_POSTGRES, *postgres_tools.RESTORE, *_DATABASE, stdin=content)

    def analyze(self) -> None:
        """Make PostgreSQL gather statistics."""
        self._compose.run(*_AS_POSTGRES, *postgres_tools.ANALYZE, *_DATABASE)

    @property
    def _layout(self) -> Layout:
        config = self._compose.env_file.values().get("NATS_CONFIG", "")
        return Layout.named(config) or Layout.SINGLE

    def _require_empty_database(self) -> None:
        query = ("psql", *_DATABASE, "-At", "-c", postgres_tools.EXISTING)
        ready = ("sh", "-c", _UNTIL_READY)
        self._compose.run(*_AS_POSTGRES, *ready)
        if self._compose.run(*_AS_POSTGRES, *query):
            raise _not_empty("PostgreSQL")


_UNTIL_READY = (
    f"for i in $(seq {READY_ATTEMPTS}); do "
    "pg_isready --quiet --username postgres --dbname hogsend --host 127.0.0.1 && exit 0; sleep 1; "
    "done; exit 1"
)


def _not_empty(server: str) -> CommandError:
    return CommandError(
        f"the volume of {server} has data already",
        "restore on an empty machine. If the data are of an interrupted restore, remove them with "
        "`docker compose down --volumes`",
    )

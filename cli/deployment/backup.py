"""A deployment with Compose, backed up while it runs and restored into empty volumes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from nats.aio.client import Client

from cli import environment
from cli.backup import postgres_tools
from cli.backup.whole import Kind
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
"""What Compose calls a deployment, and finds its containers and volumes by."""


class ComposeSource:
    """A running deployment."""

    kind: Kind = "compose"

    def __init__(self, compose: Compose) -> None:
        """Back up a deployment."""
        self._compose = compose

    @asynccontextmanager
    async def operator(self) -> AsyncIterator[Client]:
        """Connect to NATS as the operator.

        Raises:
            CommandError: services use another NATS, or another PostgreSQL.
        """
        ownership.require_nats(self._compose)
        ownership.require_postgres(self._compose)
        async with servers.operator(self._compose) as client:
            yield client

    async def gateways(self) -> Sequence[str]:
        """The gateway, and the second one if it runs."""
        running = await asyncio.to_thread(self._compose.running)
        wanted = ["gateway", *(name for name in running if name == "gateway-2")]
        return [await asyncio.to_thread(self._address, name) for name in wanted]

    def _address(self, gateway: str) -> str:
        try:
            return f"http://{self._compose.published(gateway, 3002)}"
        except CommandError:
            # It does not run, so what is in its spool is not known.
            return ""

    def dump(self, file: Path) -> None:
        """Write a dump, by pg_dump of the server's own version."""
        with file.open("wb") as written:
            file.chmod(0o600)
            self._compose.run(*_AS_POSTGRES, *postgres_tools.DUMP, *_DATABASE, stdout=written)

    def files(self) -> Mapping[str, Path]:
        """Everything in deploy/secrets, and `.env`."""
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
    """A deployment without secrets and volumes."""

    kind: Kind = "compose"

    def __init__(self, compose: Compose) -> None:
        """Restore a deployment."""
        self._compose = compose
        self.work = compose.secrets.with_name(f"{compose.secrets.name}.opened")
        self.notes: list[str] = []
        """What the operator should know."""

    def require_empty(self) -> None:
        """Check that nothing of it runs. What is on its volumes shows once NATS is started."""
        if running := self._compose.running():
            raise CommandError(
                f"{', '.join(running)} of this deployment run already",
                "restore on an empty machine, or stop them first: docker compose down",
            )

    def restore_files(self, files: Path) -> None:
        """Put secrets and `.env` where they belong, unless others are there.

        Raises:
            CommandError: others are there, or a deployment has the name that `.env` gives.
        """
        self._require_own_name(files / SETTINGS)
        wanted = {
            self._compose.secrets / file.relative_to(files / SECRETS): file
            for file in (files / SECRETS).rglob("*")
            if file.is_file()
        }
        if (files / SETTINGS).exists():
            wanted[self._compose.env_file.path] = files / SETTINGS
        for file, saved in wanted.items():
            if file.exists() and file.read_bytes() not in {b"", saved.read_bytes()}:
                raise CommandError(
                    f"{file} differs from the one in the backup",
                    "restore on an empty machine, or move .env and deploy/secrets away first",
                )
        self._compose.secrets.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._compose.secrets.chmod(0o700)
        for file, saved in wanted.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            write_private(file, saved.read_bytes())
            if file != self._compose.env_file.path:
                # As generate_secrets.py: containers run as other users; the directory is closed.
                file.chmod(0o444)

    @asynccontextmanager
    async def servers(self) -> AsyncIterator[Client]:
        """Start NATS and PostgreSQL, and find both empty."""
        self._compose.run("up", "-d", *self._layout.servers, "postgres")
        self._require_empty_database()
        async with servers.operator(self._compose) as client:
            if (await client.jetstream().account_info()).streams:
                raise _not_empty("NATS")
            yield client

    def _require_own_name(self, settings: Path) -> None:
        """Check that `.env` as saved does not make this directory that of another deployment.

        Its containers would be replaced, and its volumes be taken for those of this one.
        """
        name = EnvFile(settings).values().get(_PROJECT)
        if not name or environment.without_file().get(_PROJECT):
            return
        if name == self._compose.env_file.values().get(_PROJECT):
            # It has been this one's before.
            return
        if services := self._compose.services_of(name):
            raise CommandError(
                f"there is a deployment {name} already, with {', '.join(services)}, and the backup "
                f"has its name: {_PROJECT} in .env",
                f"restore on an empty machine, or under another name, with {_PROJECT} in the "
                "environment of this command and of every later one",
            )

    def copies(self) -> int | None:
        """As many as the layout has servers."""
        return self._layout.copies

    def load(self, dump: Path) -> None:
        """Load a dump, by pg_restore of the server's own version."""
        with dump.open("rb") as read:
            self._compose.run(*_AS_POSTGRES, *postgres_tools.RESTORE, *_DATABASE, stdin=read)

    def analyze(self) -> None:
        """Have PostgreSQL gather statistics."""
        self._compose.run(*_AS_POSTGRES, *postgres_tools.ANALYZE, *_DATABASE)

    @property
    def _layout(self) -> Layout:
        named = self._compose.env_file.values().get("NATS_CONFIG", "")
        return Layout.named(named) or Layout.SINGLE

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


def _not_empty(what: str) -> CommandError:
    return CommandError(
        f"there are data in {what} already",
        "restore on an empty machine. If they are of a restore that was interrupted, "
        "`docker compose down --volumes` removes them",
    )

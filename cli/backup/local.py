"""Backup of the running local stack, and restore into a new one."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from dotenv import dotenv_values
from nats.aio.client import Client

from cli.backup import postgres_tools
from cli.backup.archive import Kind
from cli.backup.local_files import MARKS, SECRETS, SETTINGS, restore_marks
from cli.environment import FILE
from cli.errors import CommandError
from cli.operator_bus import operator_bus
from cli.server_address import local_gateway_url
from cli.stack import nats
from cli.stack.data_directory import DataDirectory, write_private
from cli.stack.environment import minimal_environment
from cli.stack.postgres import EmbeddedPostgres
from cli.stack.readiness import is_listening, wait_until_ready
from cli.stack.supervisor import Program, Supervisor
from hogsend.contract.users import User
from hogsend.service.settings.shared import BusSettings


class LocalSource:
    """A running local stack: its data directory, and external servers if it uses any."""

    kind: Kind = "local"

    def __init__(self, home: Path) -> None:
        """Back up the stack with the data directory `home`.

        Raises:
            CommandError: there is no stack in it.
        """
        self._home = home.expanduser().resolve()
        if not (self._home / SECRETS).is_dir():
            raise CommandError(
                f"there is no stack in {self._home}",
                "set HOGSEND_HOME to the data directory of a stack; for a deployment with Compose "
                "use `hogsend compose backup`",
            )

    @asynccontextmanager
    async def operator(self) -> AsyncIterator[Client]:
        """Connect to NATS as the operator."""
        file = self._home / f"{User.OPERATOR}.env"
        url = os.environ.get("NATS_URL") or dotenv_values(file).get("NATS_URL")
        async with operator_bus(url) as connection:
            yield connection.client

    async def gateways(self) -> Sequence[str]:
        """Return the URL of the gateway."""
        return [local_gateway_url()]

    def dump(self, file: Path) -> None:
        """Write a dump of PostgreSQL."""
        url = os.environ.get("DATABASE_URL") or _superuser_url(self._home)
        postgres_tools.run(postgres_tools.DUMP, url, f"--file={file}")

    def files(self) -> Mapping[str, Path]:
        """Return the generated secrets, `.env`, and the marker files of the data directory."""
        secrets = self._home / SECRETS
        files = {
            f"{SECRETS}/{file.relative_to(secrets)}": file
            for file in secrets.rglob("*")
            if file.is_file()
        }
        if Path(FILE).is_file():
            files[SETTINGS] = Path(FILE)
        files |= {mark: self._home / mark for mark in MARKS if (self._home / mark).is_file()}
        return files


class LocalTarget:
    """A data directory that does not exist yet. It appears once everything is restored."""

    kind: Kind = "local"

    def __init__(self, home: Path, port: int) -> None:
        """Restore into `home`; NATS listens on `port` during the restore."""
        self._final = home.expanduser().resolve()
        self._fresh = self._final.with_name(f"{self._final.name}.restoring")
        self.work = self._final.with_name(f"{self._final.name}.opened")
        self._port = port
        self.notes: list[str] = []
        """Notes for the operator."""

    def require_empty(self) -> None:
        """Check that the data directory is missing or empty.

        Raises:
            CommandError: it is not, or cannot be replaced, or only one external server is set.
        """
        if self._final.exists() and not self._final.is_dir():
            raise CommandError(
                f"{self._final} is not a directory",
                "set HOGSEND_HOME to a directory that does not exist",
            )
        if self._final.exists() and any(self._final.iterdir()):
            raise CommandError(
                f"there is a stack in {self._final} already",
                "set HOGSEND_HOME to a directory that does not exist",
            )
        if self._final.is_mount():
            # The restored directory is renamed to its final name, which a mount point prevents.
            raise CommandError(
                f"{self._final} is a mount point, which cannot be replaced",
                "set HOGSEND_HOME to a directory in it that does not exist, here and for "
                "`hogsend up`",
            )
        for setting, other in (("NATS_URL", "DATABASE_URL"), ("DATABASE_URL", "NATS_URL")):
            if os.environ.get(setting):
                raise CommandError(
                    f"{setting} is set, but {other} is not",
                    f"set {other} too, to restore to servers of your own; or unset {setting}",
                )
        shutil.rmtree(self._fresh, ignore_errors=True)

    def restore_files(self, files: Path) -> None:
        """Restore the secrets into the data directory, and `.env` into the working directory.

        An existing `.env` is kept, and the restored one is written to `env.restored` instead.

        Raises:
            CommandError: with the restored `.env`, `hogsend up` would not use the restored data.
        """
        self._require_restored_home(files / SETTINGS)
        home = DataDirectory(self._fresh)
        # Created private before the copy: `copytree` sets the mode only after it has copied.
        (home.path / SECRETS).mkdir(mode=0o700)
        shutil.copytree(files / SECRETS, home.path / SECRETS, dirs_exist_ok=True)
        restore_marks(files, home.path)
        saved = files / SETTINGS
        if not saved.exists():
            return
        here = Path(FILE)
        if not here.exists():
            write_private(here, saved.read_bytes())
        elif here.read_bytes() != saved.read_bytes():
            write_private(home.path / "env.restored", saved.read_bytes())
            self.notes.append(
                f"./.env was left unchanged; the .env of the backup is {self._final}/env.restored"
            )

    def _require_restored_home(self, saved: Path) -> None:
        """Check that the `.env` of the backup leads `hogsend up` to the restored data.

        An existing `.env` is not replaced, so the one of the backup does not matter then.
        """
        if Path(FILE).exists():
            return
        values = dotenv_values(saved)
        home = values.get("HOGSEND_HOME")
        conflicting = [name for name in ("NATS_URL", "DATABASE_URL") if values.get(name)]
        if home and Path(home.strip()).expanduser().resolve() != self._final:
            conflicting.append("HOGSEND_HOME")
        for name in conflicting:
            if not os.environ.get(name):
                raise CommandError(
                    f"the .env of the backup sets {name}, so `hogsend up` would not use the data "
                    f"restored to {self._final}",
                    f"set {name} for this command; or create a .env here that does not set it: an "
                    "existing .env is kept",
                )

    @asynccontextmanager
    async def servers(self) -> AsyncIterator[Client]:
        """Run NATS and PostgreSQL on the new directory; rename it to its final name at the end."""
        home = DataDirectory(self._fresh)
        supervisor = Supervisor(home.logs, lambda _name, _event: None)
        database = EmbeddedPostgres(home.path / "postgres", home.secret)
        passwords = {user: home.secret(f"nats-{user}") for user in User}
        config = home.path / "nats.conf"
        nats.write_config(
            config,
            port=self._port,
            store=home.path / "nats",
            passwords=passwords,
            limits=BusSettings().stream_limits,
        )
        await asyncio.to_thread(database.prepare)
        try:
            await supervisor.start(Program("nats", nats.command(config), minimal_environment()))
            await supervisor.start(database.program)
            await wait_until_ready(supervisor, "nats", lambda: is_listening(self._port))
            await wait_until_ready(supervisor, "postgres", database.ready)
            url = nats.url(User.OPERATOR, passwords[User.OPERATOR], self._port)
            async with operator_bus(url) as connection:
                yield connection.client
        finally:
            await supervisor.stop()
            database.remove_sockets()
        shutil.rmtree(database.sockets, ignore_errors=True)
        if self._final.exists():
            self._final.rmdir()
        self._fresh.rename(self._final)

    def copies(self) -> int | None:
        """Return 1, for the single NATS server."""
        return 1

    def load(self, dump: Path) -> None:
        """Load a dump into the new PostgreSQL."""
        postgres_tools.run(postgres_tools.RESTORE, _superuser_url(self._fresh), str(dump))

    def analyze(self) -> None:
        """Make the new PostgreSQL gather statistics."""
        postgres_tools.run(postgres_tools.ANALYZE, _superuser_url(self._fresh))


def _superuser_url(home: Path) -> str:
    return EmbeddedPostgres(home / "postgres", DataDirectory(home).secret).url

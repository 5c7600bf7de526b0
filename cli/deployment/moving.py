"""From one layout to the other, with every stream: `hogsend compose layout`.

The gateways go on accepting webhooks into their spools. NATS is made to listen at another port, so
that nothing is published any more; the streams are saved; the data are set aside; the servers of
the other layout get the streams; then everything starts as usual, and the spools drain.

Each step is written down before the next, so that a move that was interrupted goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import httpx
import msgspec

from cli.backup import streams
from cli.backup.spools import spooled
from cli.backup.streams import Done, StreamError
from cli.deployment import ownership, servers
from cli.deployment.compose import Compose
from cli.deployment.layout import DOOR, SERVERS, SHARED_ACCOUNT, Layout
from cli.errors import CommandError
from cli.own_http import own_http
from cli.stack.data_directory import write_private

SCRIPT = "/etc/nats/start.sh"
_MOVING = "a move that has not ended"
"""How `start.sh` marks data that were set aside, until others replace them."""
SECOND = ("gateway-2", "credentials-2", "provisioner-2", "ingest-2", "analytics-2")
"""The second of each service, which only the cluster has."""
SPOOL_POLLS = 600
READY_POLLS = 120
POLL_SECONDS = 0.5

Tell = Callable[[str], None]


class Journal(msgspec.Struct):
    """How far a move has come."""

    origin: Layout
    target: Layout
    backup: str
    """Directory with the saved streams, relative to the deployment's."""
    config: str = ""
    """What the servers with the data start with; of a version that did not say, as their layout."""
    step: Literal["saving", "replacing", "restoring", "starting"] = "saving"


class Moved(msgspec.Struct, frozen=True):
    """What a move did."""

    layout: Layout
    streams: list[Done]
    backup: str | None = None


class Move:
    """One move, of one deployment."""

    def __init__(self, compose: Compose, tell: Tell) -> None:
        """Work on a deployment, and tell each step."""
        self._compose = compose
        self._tell = tell
        self._file = compose.directory / ".layout-move.json"

    def to(self, target: Layout) -> Moved:
        """Bring the deployment to a layout, with its streams if it has any.

        Raises:
            CommandError: something fails. What the texts say can be done, and then the same again.
        """
        if DOOR in self._compose.services():
            raise CommandError(
                "two gateways share a port here, and a move has to ask each of them",
                'go back to one gateway as docs/deploy.md says in "Two gateways behind one port"; '
                "after the move, put deploy/shared-port.yaml back into COMPOSE_FILE",
            )
        ownership.require_nats(
            self._compose, "remove HOGSEND_NATS_URL from .env to use those of compose.yaml"
        )
        journal = self._begun()
        if journal is not None and journal.target is not target:
            raise CommandError(
                f"a move to {journal.target} has not ended",
                f"run `hogsend compose layout {journal.target}` first",
            )
        if journal is None:
            found = {server: self._mark_of(server) for server in SERVERS}
            origin, config = _origin(found["nats"])
            if origin is None or (origin is target and config == target.config):
                if origin is None and any(found.values()):
                    raise CommandError(
                        "there are data of nats-2 or nats-3, and none of nats",
                        "restore a backup into empty volumes: docs/deploy.md",
                    )
                self._choose(target)
                return Moved(target, [])
            name = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
            journal = Journal(origin, target, f"backup/layout-{name}", config)
        return asyncio.run(self._move(journal))

    async def _move(self, journal: Journal) -> Moved:
        backup = self._compose.directory / journal.backup
        try:
            if journal.step == "saving":
                await self._save(journal, backup)
            if journal.step == "replacing":
                self._replace(journal)
            done = await self._restore(journal, backup) if journal.step == "restoring" else []
        except StreamError as error:
            raise CommandError(str(error), error.fix) from error
        await self._start(journal)
        self._file.unlink(missing_ok=True)
        return Moved(journal.target, done, journal.backup)

    async def _save(self, journal: Journal, backup: Path) -> None:
        self._tell("saving the streams; webhooks are accepted into the spool meanwhile")
        origin, config = journal.origin, journal.config or journal.origin.value
        _make_private(backup)
        try:
            self._servers(origin, config, moving=True)
            async with servers.operator(self._compose, port=servers.MOVING_PORT) as client:
                await streams.save_all(client, backup, _silent)
        except BaseException:
            # Nothing has changed so far: everything goes on as before.
            self._servers(origin, config, moving=False)
            raise
        self._reach(journal, "replacing")

    def _replace(self, journal: Journal) -> None:
        self._tell(f"setting the data of {journal.origin} aside")
        self._compose.run("--profile", "cluster", "stop", *SERVERS)
        name = f"before-{Path(journal.backup).name.removeprefix('layout-')}"
        for server in SERVERS:
            self._script(server, "set-aside", name, layout=Layout.CLUSTER)
        self._choose(journal.target)
        self._reach(journal, "restoring")

    async def _restore(self, journal: Journal, backup: Path) -> list[Done]:
        target = journal.target
        self._tell(f"restoring the streams on {', '.join(target.servers)}")
        self._servers(target, target.config, moving=True)
        async with servers.operator(self._compose, port=servers.MOVING_PORT) as client:
            for source in streams.saved_streams(backup):
                # Of an attempt that was interrupted: the target is new, so no other stream is
                # there.
                await streams.delete(client, source.name)
            done = await streams.restore_all(client, backup, _silent, copies=target.copies)
        self._compose.run("--profile", "cluster", "stop", *SERVERS)
        for server in target.servers:
            self._script(server, "settle", target.mark, layout=target)
        for server in SERVERS[target.copies :]:
            self._script(server, "leave", layout=Layout.CLUSTER)
        self._reach(journal, "starting")
        return done

    async def _start(self, journal: Journal) -> None:
        self._tell("starting everything")
        target = journal.target
        self._servers(target, target.config, moving=False)
        wanted = [name for name in self._services(target) if name not in SERVERS]
        others = [name for name in wanted if name != "gateway"]
        self._compose.run("up", "-d", *others)
        # Last, so that where there are two gateways one of them always answers.
        if target is Layout.CLUSTER:
            await self._wait_for_second_gateway()
        self._compose.run("up", "-d", "gateway")
        if target is Layout.SINGLE:
            await self._remove_seconds()

    async def _wait_for_second_gateway(self) -> None:
        """Wait until `gateway-2` takes webhooks, which is some seconds after it was started."""
        async with self._gateway_2() as http:
            for _ in range(READY_POLLS):
                if await _is_ready(http):
                    return
                await asyncio.sleep(POLL_SECONDS)
        self._tell("gateway-2 does not take webhooks; some are refused while gateway is replaced")

    @asynccontextmanager
    async def _gateway_2(self) -> AsyncIterator[httpx.AsyncClient]:
        address = f"http://{self._compose.published('gateway-2', 3002)}"
        async with own_http(address) as http:
            yield http

    async def _remove_seconds(self) -> None:
        """Stop what only the cluster has, the second gateway once its spool is empty."""
        running = self._compose.running()
        if "gateway-2" in running:
            self._tell("waiting for the spool of gateway-2")
            async with self._gateway_2() as http:
                for _ in range(SPOOL_POLLS):
                    if await spooled(http) == 0:
                        break
                    await asyncio.sleep(POLL_SECONDS)
                else:
                    raise CommandError(
                        "the spool of gateway-2 does not drain",
                        "look into `docker compose --profile cluster logs gateway-2`, then run "
                        "this command again",
                    )
        self._compose.run("--profile", "cluster", "rm", "--stop", "--force", *SERVERS[1:], *SECOND)

    def _services(self, layout: Layout) -> list[str]:
        return self._compose.services(*([layout.value] if layout is Layout.CLUSTER else []))

    def _servers(self, layout: Layout, config: str, *, moving: bool) -> None:
        """Start the servers of a layout, with a configuration, and no other container."""
        self._compose.run(
            *("--profile", "cluster", "up", "-d", "--no-deps", *layout.servers),
            extra={"NATS_CONFIG": config, **(servers.MOVING if moving else {})},
        )

    def _mark_of(self, server: str) -> str:
        """What a server's data are marked with; nothing without data."""
        found = self._script(server, "which", layout=Layout.CLUSTER)
        if found == _MOVING:
            raise CommandError(
                f"the data of {server} belong to a move of which nothing else is left",
                "restore a backup into empty volumes (docs/deploy.md); "
                "`docker compose --profile cluster down --volumes` empties them",
            )
        if found and Layout.named(found) is None:
            raise CommandError(
                f"the data of {server} are not of a layout that is known here: {found}",
                "use the version of Hogsend that wrote them; nothing was changed",
            )
        return found

    def _script(self, server: str, *words: str, layout: Layout) -> str:
        """Run `start.sh` on a server's volume."""
        return self._compose.run(
            *(
                "--profile",
                "cluster",
                "run",
                "--rm",
                "--no-deps",
                "-T",
                server,
                "sh",
                SCRIPT,
                *words,
            ),
            extra={"NATS_CONFIG": layout.config},
        )

    def _choose(self, layout: Layout) -> None:
        file = self._compose.env_file
        file.change(layout.lines(file.values().get("COMPOSE_PROFILES", "")))

    def _begun(self) -> Journal | None:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=Journal)
        except FileNotFoundError:
            return None

    def _reach(self, journal: Journal, step: Literal["replacing", "restoring", "starting"]) -> None:
        journal.step = step
        write_private(self._file, msgspec.json.encode(journal).decode())


def _origin(mark: str) -> tuple[Layout | None, str]:
    """The layout of data that are marked so, and what their servers start with."""
    layout = Layout.named(mark)
    if layout is None:
        return None, ""
    return layout, mark if mark == SHARED_ACCOUNT else layout.config


def _make_private(directory: Path) -> None:
    directory.mkdir(parents=True, mode=0o700, exist_ok=True)
    directory.chmod(0o700)


async def _is_ready(http: httpx.AsyncClient) -> bool:
    """Whether a gateway takes webhooks."""
    try:
        return (await http.get("/readyz")).is_success
    except httpx.HTTPError:
        return False


def _silent(_stream: str, _size: int) -> None:
    pass

"""Moves a deployment from one layout to the other, with its streams: `hogsend compose layout`.

1. NATS is restarted on another port, so that nothing is published any more. The gateways keep
   accepting webhooks into their spools.
2. The streams are saved, and the data of the NATS servers are set aside.
3. The NATS servers of the other layout start, and the streams are restored to them.
4. Everything starts as usual, and the spools drain.

Each completed step is recorded in a journal, so that an interrupted move can be continued.
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

from cli.backup import stream_snapshot, streams
from cli.backup.spools import spooled_webhooks
from cli.backup.stream_snapshot import StreamError, StreamResult
from cli.deployment import ownership, servers
from cli.deployment.compose import Compose
from cli.deployment.layout import SERVERS, SHARED_ACCOUNT, SHARED_PORT, Layout
from cli.errors import CommandError
from cli.local_http import local_http
from cli.stack.data_directory import write_private

SCRIPT = "/etc/nats/start.sh"
_MOVING = "a move that has not ended"
"""The mark by `start.sh` in place of data that were set aside and not replaced yet."""
SECOND = ("gateway-2", "credentials-2", "provisioner-2", "ingest-2", "analytics-2")
"""The second replica of each service, which only the cluster has."""
SPOOL_POLLS = 600
READY_POLLS = 120
POLL_SECONDS = 0.5

Report = Callable[[str], None]
"""Prints the step that starts."""


class Journal(msgspec.Struct):
    """The progress of a move."""

    origin: Layout
    target: Layout
    backup: str
    """Directory with the saved streams, relative to the deployment's."""
    config: str = ""
    """NATS_CONFIG of the origin. Empty in an earlier version, which means the layout's name."""
    step: Literal["saving", "replacing", "restoring", "starting"] = "saving"


class Moved(msgspec.Struct, frozen=True):
    """The result of a move: the JSON document of `compose layout`."""

    layout: Layout
    streams: list[StreamResult]
    backup: str | None = None


class Move:
    """A move of one deployment."""

    def __init__(self, compose: Compose, report: Report) -> None:
        """Move the deployment of `compose`, and report each step."""
        self._compose = compose
        self._report = report
        self._file = compose.directory / ".layout-move.json"

    def to(self, target: Layout) -> Moved:
        """Bring the deployment to a layout, with its streams if it has any.

        Raises:
            CommandError: a step failed. After the fix, the same call continues the move.
        """
        if SHARED_PORT in self._compose.services():
            raise CommandError(
                "two gateways share a port, but a move sends requests to each of them",
                'go back to one gateway, as in "Two gateways behind one port" of docs/deploy.md; '
                "after the move, add deploy/shared-port.yaml to COMPOSE_FILE again",
            )
        ownership.require_nats(
            self._compose,
            "remove HOGSEND_NATS_URL from .env to use the NATS servers of compose.yaml",
        )
        journal = self._load_journal()
        if journal is not None and journal.target is not target:
            raise CommandError(
                f"a move to the layout {journal.target} is not complete",
                f"run `hogsend compose layout {journal.target}` first",
            )
        if journal is None:
            marks = {server: self._mark_of(server) for server in SERVERS}
            origin, config = _origin(marks["nats"])
            if origin is None or (origin is target and config == target.config):
                if origin is None and any(marks.values()):
                    raise CommandError(
                        "the volume of nats is empty, but nats-2 or nats-3 has data",
                        "restore a backup into empty volumes (docs/deploy.md)",
                    )
                self._write_layout(target)
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
            restored = await self._restore(journal, backup) if journal.step == "restoring" else []
        except StreamError as error:
            raise CommandError(str(error), error.fix) from error
        await self._start(journal)
        self._file.unlink(missing_ok=True)
        return Moved(journal.target, restored, journal.backup)

    async def _save(self, journal: Journal, backup: Path) -> None:
        self._report("saving the streams; the gateways keep webhooks in their spools meanwhile")
        origin, config = journal.origin, journal.config or journal.origin.value
        _make_private(backup)
        try:
            self._servers(origin, config, moving=True)
            async with servers.operator(self._compose, port=servers.MOVING_PORT) as client:
                await streams.save_all(client, backup, _silent)
        except BaseException:
            # The data are unchanged so far: continue in the layout of before.
            self._servers(origin, config, moving=False)
            raise
        self._record_step(journal, "replacing")

    def _replace(self, journal: Journal) -> None:
        self._report(f"setting the data of the layout {journal.origin} aside")
        self._compose.run("--profile", "cluster", "stop", *SERVERS)
        name = f"before-{Path(journal.backup).name.removeprefix('layout-')}"
        for server in SERVERS:
            self._script(server, "set-aside", name, layout=Layout.CLUSTER)
        self._write_layout(journal.target)
        self._record_step(journal, "restoring")

    async def _restore(self, journal: Journal, backup: Path) -> list[StreamResult]:
        target = journal.target
        self._report(f"restoring the streams to {', '.join(target.servers)}")
        self._servers(target, target.config, moving=True)
        async with servers.operator(self._compose, port=servers.MOVING_PORT) as client:
            for source in streams.saved_streams(backup):
                # An interrupted attempt may have restored it. The servers are new, so the stream
                # cannot have other messages.
                await stream_snapshot.delete(client, source.name)
            restored = await streams.restore_all(client, backup, _silent, copies=target.copies)
        self._compose.run("--profile", "cluster", "stop", *SERVERS)
        for server in target.servers:
            self._script(server, "settle", target.mark, layout=target)
        for server in SERVERS[target.copies :]:
            self._script(server, "leave", layout=Layout.CLUSTER)
        self._record_step(journal, "starting")
        return restored

    async def _start(self, journal: Journal) -> None:
        self._report("starting all services")
        target = journal.target
        self._servers(target, target.config, moving=False)
        services = [name for name in self._services(target) if name not in SERVERS]
        others = [name for name in services if name != "gateway"]
        self._compose.run("up", "-d", *others)
        # The first gateway is replaced last, so that one of two always accepts webhooks.
        if target is Layout.CLUSTER:
            await self._wait_for_second_gateway()
        self._compose.run("up", "-d", "gateway")
        if target is Layout.SINGLE:
            await self._remove_seconds()

    async def _wait_for_second_gateway(self) -> None:
        """Wait until `gateway-2` accepts webhooks, some seconds after its start."""
        async with self._gateway_2() as http:
            for _ in range(READY_POLLS):
                if await _is_ready(http):
                    return
                await asyncio.sleep(POLL_SECONDS)
        self._report(
            "gateway-2 does not accept webhooks; some are refused while gateway is replaced"
        )

    @asynccontextmanager
    async def _gateway_2(self) -> AsyncIterator[httpx.AsyncClient]:
        address = f"http://{self._compose.published('gateway-2', 3002)}"
        async with local_http(address) as http:
            yield http

    async def _remove_seconds(self) -> None:
        """Remove the second replicas and NATS servers, after the spool of `gateway-2` is empty."""
        running = self._compose.running()
        if "gateway-2" in running:
            self._report("waiting for the spool of gateway-2 to drain")
            async with self._gateway_2() as http:
                for _ in range(SPOOL_POLLS):
                    if await spooled_webhooks(http) == 0:
                        break
                    await asyncio.sleep(POLL_SECONDS)
                else:
                    raise CommandError(
                        "the spool of gateway-2 does not drain",
                        "see `docker compose --profile cluster logs gateway-2`, then run this "
                        "command again",
                    )
        self._compose.run("--profile", "cluster", "rm", "--stop", "--force", *SERVERS[1:], *SECOND)

    def _services(self, layout: Layout) -> list[str]:
        return self._compose.services(*([layout.value] if layout is Layout.CLUSTER else []))

    def _servers(self, layout: Layout, config: str, *, moving: bool) -> None:
        """Start only the NATS servers of a layout.

        Args:
            layout: the layout.
            config: NATS_CONFIG of the servers.
            moving: whether they listen on the port that no service uses.
        """
        self._compose.run(
            *("--profile", "cluster", "up", "-d", "--no-deps", *layout.servers),
            extra={"NATS_CONFIG": config, **(servers.MOVING if moving else {})},
        )

    def _mark_of(self, server: str) -> str:
        """Return the mark in a server's data; empty without data.

        Raises:
            CommandError: the data are of an unknown layout, or of a move without its journal.
        """
        mark = self._script(server, "which", layout=Layout.CLUSTER)
        if mark == _MOVING:
            raise CommandError(
                f"the data of {server} belong to an incomplete move, whose other data are missing",
                "restore a backup into empty volumes (docs/deploy.md); "
                "`docker compose --profile cluster down --volumes` empties them",
            )
        if mark and Layout.named(mark) is None:
            raise CommandError(
                f"the data of {server} are of an unknown layout: {mark}",
                "use the version of Hogsend that wrote them; nothing was changed",
            )
        return mark

    def _script(self, server: str, *words: str, layout: Layout) -> str:
        """Run a command of `start.sh` in a container with a server's volume."""
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

    def _write_layout(self, layout: Layout) -> None:
        """Write the variables of a layout into `.env`."""
        file = self._compose.env_file
        file.change(layout.lines(file.values().get("COMPOSE_PROFILES", "")))

    def _load_journal(self) -> Journal | None:
        """Return the journal of an incomplete move, if there is one."""
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=Journal)
        except FileNotFoundError:
            return None

    def _record_step(
        self, journal: Journal, step: Literal["replacing", "restoring", "starting"]
    ) -> None:
        """Record in the journal that the move continues with `step`."""
        journal.step = step
        write_private(self._file, msgspec.json.encode(journal).decode())


def _origin(mark: str) -> tuple[Layout | None, str]:
    """Return the layout and NATS_CONFIG of data with this mark."""
    layout = Layout.named(mark)
    if layout is None:
        return None, ""
    return layout, mark if mark == SHARED_ACCOUNT else layout.config


def _make_private(directory: Path) -> None:
    directory.mkdir(parents=True, mode=0o700, exist_ok=True)
    directory.chmod(0o700)


async def _is_ready(http: httpx.AsyncClient) -> bool:
    """Whether a gateway accepts webhooks."""
    try:
        return (await http.get("/readyz")).is_success
    except httpx.HTTPError:
        return False


def _silent(_stream: str, _size: int) -> None:
    pass

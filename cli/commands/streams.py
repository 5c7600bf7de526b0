"""`hogsend streams`: back up JetStream's streams to files, and restore them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from cyclopts import App
from nats.aio.client import Client
from rich.status import Status

from cli.arguments import Directory, NameIfAny
from cli.backup import streams
from cli.backup.report import show_stream
from cli.backup.streams import Done, StreamError
from cli.bus_address import operator_address
from cli.console import counted, err, out, print_json
from cli.errors import CommandError
from cli.flags import Flag
from cli.operator_bus import operator_bus

app = App(name="streams", help="Back up JetStream's streams to files, and restore them.")


class Report(msgspec.Struct, frozen=True):
    """What `--json` prints."""

    directory: str
    streams: list[Done]


@app.command
def backup(directory: Directory, *, nats_url: NameIfAny = None, json: Flag = False) -> int:
    """Back up every stream with the positions of its consumers.

    An earlier backup is never overwritten. Back up PostgreSQL with pg_dump after the streams; see
    docs/deploy.md.

    Parameters
    ----------
    directory
        Target directory, without a backup in it; created if it is missing.
    nats_url
        Address of NATS with the operator's user; NATS_URL, else .hogsend/operator.env.
    json
        Print one JSON document on stdout and nothing else.
    """
    if streams.saved_streams(directory):
        raise CommandError(
            f"there is a backup in {directory} already, which is not overwritten",
            "give a new directory, for example one named by the date",
        )

    async def run() -> list[Done]:
        async with _working("saving", nats_url) as (client, progress):
            return await streams.save_all(client, directory, progress)

    return _report(asyncio.run(run()), directory, "saved to", json=json)


@app.command
def restore(directory: Directory, *, nats_url: NameIfAny = None, json: Flag = False) -> int:
    """Restore every stream of a backup. Run it before any service is started.

    Parameters
    ----------
    directory
        Directory that `backup` wrote.
    nats_url
        Address of NATS with the operator's user; NATS_URL, else .hogsend/operator.env.
    json
        Print one JSON document on stdout and nothing else.
    """
    if not streams.saved_streams(directory):
        raise CommandError(
            f"there is no backup in {directory}",
            "give the directory that `hogsend streams backup` wrote",
        )

    async def run() -> list[Done]:
        async with _working("restoring", nats_url) as (client, progress):
            return await streams.restore_all(client, directory, progress)

    return _report(asyncio.run(run()), directory, "restored from", json=json)


@asynccontextmanager
async def _working(
    what: str, nats_url: str | None
) -> AsyncIterator[tuple[Client, streams.Progress]]:
    try:
        with err.status(what) as status:
            async with operator_bus(operator_address(nats_url)) as connection:
                yield connection.client, _shown(what, status)
    except StreamError as error:
        raise CommandError(str(error), error.fix) from error


def _shown(what: str, status: Status) -> streams.Progress:
    def progress(stream: str, size: int) -> None:
        status.update(f"{what} {stream}, {size / 1024 / 1024:.1f} MiB")

    return progress


def _report(done: list[Done], directory: Path, what: str, *, json: bool) -> int:
    if json:
        print_json(Report(str(directory), done))
        return 0
    for one in done:
        show_stream(one)
    out.print(f"{counted(len(done), 'stream')} {what} {directory}")
    return 0

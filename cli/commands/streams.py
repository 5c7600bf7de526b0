"""`hogsend streams`: back up only the JetStream streams, and restore them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from cyclopts import App
from nats.aio.client import Client
from rich.status import Status

from cli.arguments import Directory, OptionalName
from cli.backup import streams
from cli.backup.report import show_stream
from cli.backup.stream_snapshot import Progress, StreamError, StreamResult
from cli.bus_address import operator_address
from cli.console import err, out, print_json, quantity
from cli.errors import CommandError
from cli.flags import Flag
from cli.operator_bus import operator_bus

app = App(name="streams", help="Back up only the JetStream streams, and restore them.")


class Report(msgspec.Struct, frozen=True):
    """The JSON document of both commands."""

    directory: str
    streams: list[StreamResult]


@app.command
def backup(directory: Directory, *, nats_url: OptionalName = None, json: Flag = False) -> int:
    """Back up all streams, with the positions of their consumers, unencrypted.

    For servers of your own: `hogsend backup` and `hogsend compose backup` also save PostgreSQL and
    the secrets. Back up PostgreSQL with pg_dump after the streams; see docs/deploy.md.

    Parameters
    ----------
    directory
        Directory to write to. It must not have a backup in it, and is created if it is missing.
    nats_url
        NATS URL with the operator's user. Default: NATS_URL, else the one in
        .hogsend/operator.env.
    json
        Print one JSON document on stdout and nothing else.
    """
    if streams.saved_streams(directory):
        raise CommandError(
            f"{directory} has a backup already, which is not overwritten",
            "pass a new directory, for example one named by the date",
        )

    async def run() -> list[StreamResult]:
        async with _operator_client("saving", nats_url) as (client, progress):
            return await streams.save_all(client, directory, progress)

    return _report(asyncio.run(run()), directory, "saved to", json=json)


@app.command
def restore(directory: Directory, *, nats_url: OptionalName = None, json: Flag = False) -> int:
    """Restore all streams of a backup into a NATS without streams, before any service starts.

    Parameters
    ----------
    directory
        Directory that `hogsend streams backup` wrote.
    nats_url
        NATS URL with the operator's user. Default: NATS_URL, else the one in
        .hogsend/operator.env.
    json
        Print one JSON document on stdout and nothing else.
    """
    if not streams.saved_streams(directory):
        raise CommandError(
            f"there is no backup in {directory}",
            "pass the directory that `hogsend streams backup` wrote",
        )

    async def run() -> list[StreamResult]:
        async with _operator_client("restoring", nats_url) as (client, progress):
            return await streams.restore_all(client, directory, progress)

    return _report(asyncio.run(run()), directory, "restored from", json=json)


@asynccontextmanager
async def _operator_client(
    action: str, nats_url: str | None
) -> AsyncIterator[tuple[Client, Progress]]:
    """Connect as the operator, and show the progress of `action`, for example "saving"."""
    try:
        with err.status(action) as status:
            async with operator_bus(operator_address(nats_url)) as connection:
                yield connection.client, _progress(action, status)
    except StreamError as error:
        raise CommandError(str(error), error.fix) from error


def _progress(action: str, status: Status) -> Progress:
    def update(stream: str, size: int) -> None:
        status.update(f"{action} {stream}, {size / 1024 / 1024:.1f} MiB")

    return update


def _report(results: list[StreamResult], directory: Path, action: str, *, json: bool) -> int:
    if json:
        print_json(Report(str(directory), results))
        return 0
    for result in results:
        show_stream(result)
    out.print(f"{quantity(len(results), 'stream')} {action} {directory}")
    return 0

"""`hogsend consumers`: look at and delete the consumers of events and credential changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import nats.errors
import nats.js.errors
from cyclopts import App
from nats.js import JetStreamContext
from nats.js.api import ConsumerInfo
from rich.text import Text

from cli.arguments import Name, NameIfAny
from cli.bus_address import operator_address
from cli.console import counted, out, print_json
from cli.errors import CommandError
from cli.flags import Flag
from cli.operator_bus import operator_bus
from cli.redaction import printable
from hogsend.contract.consumers import STREAMS_OF_OTHERS, reserved
from hogsend.contract.streams import StreamName

SEE_LIST = "`hogsend consumers list` shows what there is"

app = App(name="consumers", help="Look at and delete the consumers of events and changes.")


class Found(msgspec.Struct, frozen=True):
    """A consumer."""

    stream: str
    name: str
    durable: bool
    filters: list[str]
    waiting: int
    """Messages it has not delivered yet."""
    unacknowledged: int


class Consumers(msgspec.Struct, frozen=True):
    """What `--json` prints for `list`."""

    consumers: list[Found]


class Deleted(msgspec.Struct, frozen=True):
    """What `--json` prints for `delete`."""

    stream: str
    deleted: str


@app.command(name="list")
def list_(*, nats_url: NameIfAny = None, json: Flag = False) -> int:
    """List the consumers of events and credential changes.

    Parameters
    ----------
    nats_url
        Address of NATS with the operator's user; NATS_URL, else .hogsend/operator.env.
    json
        Print one JSON document on stdout and nothing else.
    """

    async def run() -> list[Found]:
        async with _jetstream(nats_url, StreamName.EVENTS) as js:
            return [one for stream in STREAMS_OF_OTHERS for one in await _of(js, stream)]

    found = asyncio.run(run())
    if json:
        print_json(Consumers(found))
        return 0
    show(found)
    return 0


def show(found: list[Found]) -> None:
    """Print a line for each consumer. Its name and filters are another service's words."""
    for one in found:
        kind = "durable" if one.durable else "passing"
        line = (
            f"{one.stream:<12}{one.name:<28}{kind:<9}{one.waiting:>9} waiting"
            f"{one.unacknowledged:>7} unacknowledged  {', '.join(one.filters)}"
        )
        out.print(Text(printable(line)), soft_wrap=True)
    out.print(counted(len(found), "consumer"))


@app.command
def delete(stream: str, name: Name, *, nats_url: NameIfAny = None, json: Flag = False) -> int:
    """Delete a consumer and its position.

    A subscriber that still runs makes its durable again, and receives every event that the stream
    still has. Only an operator may delete a durable: NATS cannot tell which service it belongs to.

    Parameters
    ----------
    stream
        EVENTS or CREDENTIALS.
    name
        The consumer's name, as `list` shows it.
    nats_url
        Address of NATS with the operator's user; NATS_URL, else .hogsend/operator.env.
    json
        Print one JSON document on stdout and nothing else.
    """
    if stream not in STREAMS_OF_OTHERS:
        raise CommandError(
            f"{stream!r} is not a stream that other services read",
            f"use {' or '.join(STREAMS_OF_OTHERS)}",
        )
    if name in reserved(StreamName(stream)):
        raise CommandError(
            f"{name!r} is Hogsend's own consumer, and would lose events",
            "leave it; analytics deletes it when ANALYTICS_EVENT_MIRROR is switched off",
        )

    async def run() -> None:
        async with _jetstream(nats_url, stream) as js:
            try:
                await js.delete_consumer(stream, name)
            except ValueError:
                raise CommandError(
                    f"no consumer can be called {printable(name)!r}", SEE_LIST
                ) from None

    asyncio.run(run())
    if json:
        print_json(Deleted(stream, name))
        return 0
    out.print(Text(printable(f"{name} of {stream} deleted")))
    return 0


@asynccontextmanager
async def _jetstream(nats_url: str | None, stream: str) -> AsyncIterator[JetStreamContext]:
    try:
        async with operator_bus(operator_address(nats_url)) as connection:
            yield await connection.js_for(stream)
    except nats.js.errors.NotFoundError as error:
        raise CommandError(
            f"there is no such consumer or stream: {error.description}",
            SEE_LIST,
        ) from error
    except (nats.errors.Error, TimeoutError) as error:
        raise CommandError("JetStream does not answer", "start NATS, then run it again") from error


async def _of(js: JetStreamContext, stream: StreamName) -> list[Found]:
    try:
        return [_found(stream, info) for info in await js.consumers_info(stream)]
    except nats.js.errors.NotFoundError:
        # Its service has not made it yet.
        return []


def _found(stream: str, info: ConsumerInfo) -> Found:
    config = info.config
    filters = config.filter_subjects or ([config.filter_subject] if config.filter_subject else [])
    return Found(
        stream=stream,
        name=info.name,
        durable=bool(config.durable_name),
        filters=filters,
        waiting=info.num_pending or 0,
        unacknowledged=info.num_ack_pending or 0,
    )

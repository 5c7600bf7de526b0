"""`hogsend consumers`: list and delete the JetStream consumers of subscribers."""

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

from cli.arguments import Name, OptionalName
from cli.bus_address import operator_address
from cli.console import err, out, print_hanging, print_json, quantity
from cli.errors import CommandError
from cli.flags import Flag
from cli.operator_bus import operator_bus
from cli.redaction import printable
from cli.table import print_rows
from hogsend.contract.consumers import EXTERNAL_STREAMS, reserved
from hogsend.contract.streams import StreamName

SEE_LIST = "see `hogsend consumers list`"
_HEADINGS = ("stream", "name", "kind", "waiting", "unacked", "subjects")

app = App(name="consumers", help="List and delete JetStream consumers of subscribers.")


class Consumer(msgspec.Struct, frozen=True):
    """A JetStream consumer of a subscriber."""

    stream: str
    name: str
    durable: bool
    filters: list[str]
    waiting: int
    """Messages that the consumer has not delivered yet."""
    unacknowledged: int


class Consumers(msgspec.Struct, frozen=True):
    """The JSON document of `list`."""

    consumers: list[Consumer]


class Deleted(msgspec.Struct, frozen=True):
    """The JSON document of `delete`."""

    stream: str
    deleted: str


@app.command(name="list")
def list_(*, nats_url: OptionalName = None, json: Flag = False) -> int:
    """List the JetStream consumers that subscribers have on the streams EVENTS and CREDENTIALS.

    In a pipe each consumer is one line with columns separated by tabs.

    Parameters
    ----------
    nats_url
        NATS URL with the operator's user. Default: NATS_URL, else the one in
        .hogsend/operator.env.
    json
        Print one JSON document on stdout and nothing else.
    """

    async def run() -> list[Consumer]:
        async with _jetstream(nats_url, StreamName.EVENTS) as js:
            return [one for stream in EXTERNAL_STREAMS for one in await _consumers(js, stream)]

    consumers = asyncio.run(run())
    if json:
        print_json(Consumers(consumers))
        return 0
    show(consumers)
    return 0


def show(consumers: list[Consumer]) -> None:
    """Print a row for each consumer. Subscribers choose the names and filters."""
    if consumers:
        print_rows(_HEADINGS, [_row(consumer) for consumer in consumers])
    gap = "\n" if consumers else ""
    print_hanging(err, (gap, ""), f"{quantity(len(consumers), 'consumer')} in all")


def _row(consumer: Consumer) -> list[str]:
    return [
        consumer.stream,
        consumer.name,
        "durable" if consumer.durable else "ephemeral",
        str(consumer.waiting),
        str(consumer.unacknowledged),
        ", ".join(consumer.filters),
    ]


@app.command
def delete(stream: str, name: Name, *, nats_url: OptionalName = None, json: Flag = False) -> int:
    """Delete a subscriber's consumer, and with it its position in the stream.

    Stop the subscriber first: one that runs creates its durable consumer again, and then receives
    every event that the stream still has. Only the operator may delete consumers, since NATS does
    not know which subscriber one belongs to.

    Parameters
    ----------
    stream
        Stream of the consumer: EVENTS or CREDENTIALS.
    name
        Name of the consumer, as `list` shows it.
    nats_url
        NATS URL with the operator's user. Default: NATS_URL, else the one in
        .hogsend/operator.env.
    json
        Print one JSON document on stdout and nothing else.
    """
    if stream not in EXTERNAL_STREAMS:
        raise CommandError(
            f"{stream!r} is not a stream that subscribers read",
            f"use {' or '.join(EXTERNAL_STREAMS)}",
        )
    if name in reserved(StreamName(stream)):
        raise CommandError(
            f"{name!r} is Hogsend's own consumer; deleting it would lose events",
            "keep it; analytics deletes it itself when ANALYTICS_EVENT_MIRROR is false",
        )

    async def run() -> None:
        async with _jetstream(nats_url, stream) as js:
            try:
                await js.delete_consumer(stream, name)
            except ValueError:
                raise CommandError(
                    f"{printable(name)!r} is not a valid consumer name", SEE_LIST
                ) from None

    asyncio.run(run())
    if json:
        print_json(Deleted(stream, name))
        return 0
    out.print(Text(printable(f"deleted {name} of {stream}")))
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
        raise CommandError(
            "JetStream does not reply", "start NATS, then run the command again"
        ) from error


async def _consumers(js: JetStreamContext, stream: StreamName) -> list[Consumer]:
    try:
        return [_consumer(stream, info) for info in await js.consumers_info(stream)]
    except nats.js.errors.NotFoundError:
        # The service that owns the stream has not created it yet.
        return []


def _consumer(stream: str, info: ConsumerInfo) -> Consumer:
    config = info.config
    filters = config.filter_subjects or ([config.filter_subject] if config.filter_subject else [])
    return Consumer(
        stream=stream,
        name=info.name,
        durable=bool(config.durable_name),
        filters=filters,
        waiting=info.num_pending or 0,
        unacknowledged=info.num_ack_pending or 0,
    )

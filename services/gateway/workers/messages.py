"""Messages between the parent and its workers, over a pair of sockets for each worker.

Every message is MessagePack behind its length: four bytes, big-endian.
"""

from __future__ import annotations

import asyncio
import struct
from typing import TypeAlias

import msgspec

from services.gateway.workers.samples import Family

MAX_UNSENT_BYTES = 8 * 1024 * 1024
"""Of what a worker is told; one that has not read so much hangs, and need not hear of counts."""

_LENGTH = struct.Struct(">I")


class _Message(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """One of the messages below."""


class WorkerReport(msgspec.Struct, frozen=True, array_like=True):
    """How one worker is."""

    number: int
    """From 1."""
    spooling: bool
    """Whether its webhooks go to the spool, because JetStream does not accept them."""
    waiting: int
    """Webhooks in its part of the spool."""
    refused: int
    """Webhooks that JetStream refuses, or that cannot be decoded."""
    files_aside: int
    """Files of the spool that are damaged or may not be opened, those of other workers included."""
    families: list[Family]
    """Its metrics, where they were asked for."""
    full: bool = False
    """Whether neither JetStream nor its part of the spool takes webhooks."""


class Ready(_Message, frozen=True):
    """From a worker: it serves."""


class Report(_Message, frozen=True):
    """To a worker: say how you are."""

    id: int
    metrics: bool


class Reported(_Message, frozen=True):
    """From a worker: what it was asked for."""

    id: int
    report: WorkerReport


class Ask(_Message, frozen=True):
    """From a worker: say how the others are."""

    id: int
    metrics: bool


class Told(_Message, frozen=True):
    """To a worker: those of the others that answered, and the parent's own metrics."""

    id: int
    reports: list[WorkerReport]
    families: list[Family]


class Counted(_Message, frozen=True):
    """From a worker, and on to the others: something that a limit counts.

    A limit holds for all of them together, so each of them knows of what the others counted.
    """

    kind: str
    """Which limit."""
    who: str
    """Whom it is counted for."""


FromWorker: TypeAlias = Ready | Reported | Ask | Counted
ToWorker: TypeAlias = Report | Told | Counted

_encode = msgspec.msgpack.Encoder().encode
_from_worker: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)
_to_worker: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)


def send(writer: asyncio.StreamWriter, message: FromWorker | ToWorker) -> None:
    """Send a message; nothing to an end that has gone, or that does not read."""
    transport = writer.transport
    if transport.is_closing() or transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
        return
    content = _encode(message)
    writer.write(_LENGTH.pack(len(content)) + content)


async def from_worker(reader: asyncio.StreamReader) -> FromWorker | None:
    """Give the next message of a worker; None when it has gone."""
    content = await _next(reader)
    return None if content is None else _from_worker.decode(content)


async def to_worker(reader: asyncio.StreamReader) -> ToWorker | None:
    """Give the next message of the parent; None when it has gone."""
    content = await _next(reader)
    return None if content is None else _to_worker.decode(content)


async def _next(reader: asyncio.StreamReader) -> bytes | None:
    try:
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        return await reader.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None

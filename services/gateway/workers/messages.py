"""Messages between the parent and its workers, over a pair of sockets for each worker.

Every message is its length, in four bytes, big-endian, followed by that many bytes of MessagePack.
"""

from __future__ import annotations

import asyncio
import struct
from typing import TypeAlias

import msgspec

from services.gateway.workers.samples import Family

MAX_UNSENT_BYTES = 8 * 1024 * 1024
"""Limit for messages that the receiver has not read. Beyond it the receiver hangs, and further
messages to it are dropped."""

_LENGTH = struct.Struct(">I")


class _Message(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Base of all messages."""


class WorkerReport(msgspec.Struct, frozen=True, array_like=True):
    """The state of one worker."""

    number: int
    """From 1."""
    spooling: bool
    """Whether its webhooks go to the spool, because JetStream does not accept them."""
    waiting: int
    """Webhooks in its part of the spool."""
    refused: int
    """Webhooks that JetStream refuses, or that cannot be decoded."""
    files_aside: int
    """Files of the spool that are damaged or may not be opened, of all workers."""
    families: list[Family]
    """Its metrics; empty if they were not requested."""
    full: bool = False
    """Whether neither JetStream nor its part of the spool accepts webhooks."""


class Ready(_Message, frozen=True):
    """From a worker: it serves requests."""


class ReportRequest(_Message, frozen=True):
    """To a worker: request its state."""

    id: int
    metrics: bool


class ReportReply(_Message, frozen=True):
    """From a worker: its state."""

    id: int
    report: WorkerReport


class PeersRequest(_Message, frozen=True):
    """From a worker: request the state of the other workers."""

    id: int
    metrics: bool


class PeersReply(_Message, frozen=True):
    """To a worker: the reports of the workers that replied, and the parent's own metrics."""

    id: int
    reports: list[WorkerReport]
    families: list[Family]


class Counted(_Message, frozen=True):
    """From a worker, forwarded to the others: a request that counts towards a rate limit.

    A rate limit applies to all workers together, so each worker counts what the others report.
    """

    kind: str
    """Which limit: `request`, `address` or `key`."""
    subject: str
    """The scope, key or address that it is counted for."""


FromWorker: TypeAlias = Ready | ReportReply | PeersRequest | Counted
ToWorker: TypeAlias = ReportRequest | PeersReply | Counted

_encode = msgspec.msgpack.Encoder().encode
_from_worker: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)
_to_worker: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)


def send(writer: asyncio.StreamWriter, message: FromWorker | ToWorker) -> None:
    """Send a message, unless the receiver has closed the socket or does not read."""
    transport = writer.transport
    if transport.is_closing() or transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
        return
    content = _encode(message)
    writer.write(_LENGTH.pack(len(content)) + content)


async def from_worker(reader: asyncio.StreamReader) -> FromWorker | None:
    """Return the next message of a worker, or None when it has closed the socket."""
    content = await _next(reader)
    return None if content is None else _from_worker.decode(content)


async def to_worker(reader: asyncio.StreamReader) -> ToWorker | None:
    """Return the next message of the parent, or None when it has closed the socket."""
    content = await _next(reader)
    return None if content is None else _to_worker.decode(content)


async def _next(reader: asyncio.StreamReader) -> bytes | None:
    try:
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        return await reader.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None

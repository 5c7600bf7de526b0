"""Encodes and writes publish commands in the wire format of NATS.

nats-py's `Client.publish` checks and encodes every header anew. For a batch of events that costs as
much as all other work on them (15 % of a stored row). This module uses private attributes of
nats-py, as `nats_client` and `nats_parser` do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, cast

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.transport import Transport

_NO_NEWLINES = str.maketrans("\r\n", "  ")


def encode_headers(headers: Mapping[str, str]) -> bytes:
    """Encode a header block. Names must be valid; line breaks in values become spaces."""
    lines = [f"{name}: {value}" for name, value in headers.items()]
    text = "\r\n".join(lines)
    if text.count("\n") + text.count("\r") > 2 * (len(lines) - 1):
        text = "\r\n".join(line.translate(_NO_NEWLINES) for line in lines)
    return f"NATS/1.0\r\n{text}\r\n\r\n".encode()


def encode(subject: str, reply: str, head: bytes, body: bytes) -> bytes:
    """Encode a publish command. The subject must be a valid one."""
    command = f"HPUB {subject} {reply} {len(head)} {len(head) + len(body)}\r\n".encode()
    return b"".join((command, head, body, b"\r\n"))


async def write(client: Client, commands: Iterable[bytes]) -> None:
    """Write encoded commands to the current connection, and wait until its buffer has space.

    The commands are passed to the socket at once, and never sent over a later connection. nats-py
    would buffer them, and write the remaining ones after the next reconnect, however late.

    The caller has to check the size of each message: the server closes the connection at one that
    is too large.

    Raises:
        nats.errors.Error: the connection is lost.
        OSError: the same.
    """
    if not client.is_connected:
        raise nats.errors.ConnectionReconnectingError
    transport: Transport = client._transport  # type: ignore[assignment]  # noqa: SLF001
    try:
        # Commands that nats-py has buffered were issued earlier, and go first.
        transport.writelines([*client._pending, *commands])  # noqa: SLF001
        client._pending, client._pending_data_size = [], 0  # noqa: SLF001
        await transport.drain()  # type: ignore[no-untyped-call]
    except (RuntimeError, AttributeError) as error:
        # What uvloop raises for a closed socket, and nats-py for a closed WebSocket.
        raise nats.errors.ConnectionClosedError from error


class Acknowledgeable(Protocol):
    """A message that can be acknowledged: nats-py's `Msg`, without a dependency on nats-py."""

    @property
    def reply(self) -> str:
        """Subject that the acknowledgement is published on."""

    async def ack(self) -> None:
        """Acknowledge the message."""


async def acknowledge(client: Client, messages: Sequence[Acknowledgeable]) -> None:
    """Acknowledge messages that `client` received, in a tenth of the time of single acks.

    Raises:
        nats.errors.Error: the connection is closed, or one was acknowledged before.
    """
    if not client.is_connected:
        # nats-py buffers them until the reconnect, and limits that buffer.
        for message in messages:
            await message.ack()
        return
    if not messages:
        # From Python 3.12 on, asyncio's transport never finishes a write of zero bytes.
        return
    received = cast("Sequence[Msg]", messages)
    for message in received:
        message._check_reply()  # noqa: SLF001
    # An empty body is a plain acknowledgement (NATS ADR-15).
    commands = "".join([f"PUB {message.reply} 0\r\n\r\n" for message in received])
    await client._send_command(commands.encode())  # noqa: SLF001
    await client._flush_pending()  # noqa: SLF001
    for message in received:
        message._ackd = True  # noqa: SLF001

"""A message in NATS' wire format, written as it is.

`Client.publish` checks and encodes every header anew; for a batch of events that costs as much as
everything else done to them (15 % of a stored row). It reaches behind nats-py's public face for
that, as `nats_client` and `nats_parser` do, which are ours in place of nats-py's.
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
    """Encode a header block; names must be our own, values may be anything."""
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
    """Write encoded commands to the server `client` is connected to, and wait for room behind them.

    They are with the socket before anything else happens, and never go over another connection.
    nats-py would keep them, and write what is left of them on the next one, however much later.

    The server closes the connection when a message is larger than it allows, so check that before.

    Raises:
        nats.errors.Error: the connection is lost.
        OSError: the same.
    """
    if not client.is_connected:
        raise nats.errors.ConnectionReconnectingError
    transport: Transport = client._transport  # type: ignore[assignment]  # noqa: SLF001
    try:
        # What nats-py has kept so far comes first, as it was asked for first.
        transport.writelines([*client._pending, *commands])  # noqa: SLF001
        client._pending, client._pending_data_size = [], 0  # noqa: SLF001
        await transport.drain()  # type: ignore[no-untyped-call]
    except (RuntimeError, AttributeError) as error:
        # uvloop's word for a socket that is closed already, and that of nats-py's WebSocket.
        raise nats.errors.ConnectionClosedError from error


class Acknowledgeable(Protocol):
    """nats-py's `Msg`, for those who do not know NATS."""

    @property
    def reply(self) -> str:
        """Where it is acknowledged."""

    async def ack(self) -> None:
        """Acknowledge it."""


async def acknowledge(client: Client, messages: Sequence[Acknowledgeable]) -> None:
    """Acknowledge messages that came over `client`, in a tenth of what one by one takes.

    Raises:
        nats.errors.Error: the connection is closed, or one was acknowledged before.
    """
    if not client.is_connected:
        # What is written before a reconnection is bounded, and that is nats-py's to do.
        for one in messages:
            await one.ack()
        return
    if not messages:
        # asyncio's transport is never done with writing nothing, from Python 3.12 on.
        return
    raw = cast("Sequence[Msg]", messages)
    for message in raw:
        message._check_reply()  # noqa: SLF001
    # An empty acknowledgement is a plain one (NATS ADR-15).
    commands = "".join([f"PUB {message.reply} 0\r\n\r\n" for message in raw])
    await client._send_command(commands.encode())  # noqa: SLF001
    await client._flush_pending()  # noqa: SLF001
    for message in raw:
        message._ackd = True  # noqa: SLF001

"""A message in NATS' wire format, written as it is.

`Client.publish` checks and encodes every header anew; for a batch of events that costs as much as
everything else done to them (15 % of a stored row). `tls.py` is the only other module that reaches
behind nats-py's public face.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nats.aio.client import Client

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
    """Write encoded commands to the server `client` is connected to.

    The server closes the connection when a message is larger than it allows, so check that before.

    Raises:
        nats.errors.Error: the connection is lost.
    """
    for command in commands:
        # It waits for the socket once its buffer is full, as `publish` does.
        await client._send_command(command)  # noqa: SLF001
    await client._flush_pending()  # noqa: SLF001

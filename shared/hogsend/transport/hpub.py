"""Messages in NATS' wire format, many at a time.

`Client.publish` checks and encodes every header anew; for a batch of events that costs as much as
everything else done to them. This is the only place that reaches behind nats-py's public face.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from nats.aio.client import Client

_NO_NEWLINES = str.maketrans("\r\n", "  ")


class Sendable(Protocol):
    """Whatever has a subject, a body and headers; the headers carry its deduplication id."""

    @property
    def subject(self) -> str:
        """Subject it is published on."""

    @property
    def body(self) -> bytes:
        """Payload as it is."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Header names and values."""


async def send(client: Client, messages: Iterable[tuple[Sendable, str]]) -> None:
    """Send messages, each with its reply subject, to the server `client` is connected to.

    Subjects and header names must be our own; header values may be anything. The server closes
    the connection when a message is larger than it allows, so check that before.
    """
    for message, reply in messages:
        head = _head(message.headers)
        size = len(head) + len(message.body)
        command = f"HPUB {message.subject} {reply} {len(head)} {size}\r\n".encode()
        # It waits for the socket once its buffer is full, as `publish` does.
        await client._send_command(b"".join((command, head, message.body, b"\r\n")))  # noqa: SLF001
    await client._flush_pending()  # noqa: SLF001


def _head(headers: Mapping[str, str]) -> bytes:
    lines = [f"{name}: {value}" for name, value in headers.items()]
    text = "\r\n".join(lines)
    if text.count("\n") + text.count("\r") > 2 * (len(lines) - 1):
        text = "\r\n".join(line.translate(_NO_NEWLINES) for line in lines)
    return f"NATS/1.0\r\n{text}\r\n\r\n".encode()

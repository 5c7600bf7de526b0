"""Data from a server is parsed in chunks of any size, and with any subject."""

from __future__ import annotations

from typing import Any

import nats.errors
import pytest

from hogsend.transport.nats_client import NatsClient

ODD_SUBJECTS = [
    pytest.param(b"a.\xff\xfe", "a.\ufffd\ufffd", id="no UTF-8"),
    pytest.param(b"a.\x0cb", "a.\x0cb", id="form feed"),
    pytest.param(b"a.\x0bb", "a.\x0bb", id="vertical tab"),
    pytest.param(b"a.\rb", "a.\rb", id="carriage return"),
    pytest.param(b"a.b\r", "a.b\r", id="carriage return at the end"),
    pytest.param(b"a.\x00b", "a.\x00b", id="NUL"),
    pytest.param(b"a." + b"b" * 5000, "a." + "b" * 5000, id="longer than nats-py reads a line"),
]


async def read(*chunks: bytes) -> list[tuple[Any, ...]]:
    """Return the messages that a client parses from these chunks of data."""
    client, messages = NatsClient(), []
    client._inline_handlers[7] = lambda message: messages.append(
        (message.subject, message.reply, message.headers, message.data)
    )
    for chunk in chunks:
        await client._ps.parse(chunk)
    return messages


@pytest.mark.parametrize(("subject", "text"), ODD_SUBJECTS)
async def test_a_message_on_any_subject_is_parsed_and_so_is_the_next(
    subject: bytes, text: str
) -> None:
    headers = b"NATS/1.0\r\nk: v\r\n\r\n"
    sent = (
        b"MSG %b 7 7\r\nMSG 1\r\n\r\nMSG %b 7 $JS.ACK.1 0\r\n\r\n" % (subject, subject)
        + b"HMSG %b 7 %d %d\r\n%bbody\r\n" % (subject, len(headers), len(headers) + 4, headers)
        + b"HMSG %b 7 r %d %d\r\n%b\r\n" % (subject, len(headers), len(headers), headers)
        + b"+OK\r\nMSG b 7 1\r\nx\r\n"
    )
    expected = [
        (text, "", None, b"MSG 1\r\n"),
        (text, "$JS.ACK.1", None, b""),
        (text, "", {"k": "v"}, b"body"),
        (text, "r", {"k": "v"}, b""),
        ("b", "", None, b"x"),
    ]
    assert await read(sent) == expected
    assert await read(*(sent[at : at + 1] for at in range(len(sent)))) == expected


async def test_an_invalid_line_is_an_error_and_dropped_with_the_connection() -> None:
    client, messages = NatsClient(), []
    client._inline_handlers[7] = lambda message: messages.append(message.data)
    await client._ps.parse(b"MSG a 7 100\r\nbegun")
    client._ps.reset()
    with pytest.raises(nats.errors.ProtocolError):
        await client._ps.parse(b"HTTP/1.1 400 Bad Request\r\n")
    client._ps.reset()
    await client._ps.parse(b"MSG a 7 3\r\nnew\r\n")
    assert messages == [b"new"]

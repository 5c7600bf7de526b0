"""Publish commands and acknowledgements as they are written to the server."""

from __future__ import annotations

from typing import Any, cast

import nats.errors
import pytest
from nats.aio.msg import Msg

from hogsend.transport import hpub
from hogsend.transport.hpub import encode_headers
from hogsend.transport.received_message import HEADERS_START, parse_headers

REPLY = "$JS.ACK.EVENTS.ingest.1.7.7.0.0"


class FakeClient:
    """Records what is written to the server, and what nats-py buffers while disconnected."""

    def __init__(self, *, is_connected: bool = True) -> None:
        self.is_connected = is_connected
        self.written: list[bytes] = []
        self.buffered: list[str] = []
        self._commands: list[bytes] = []

    async def _send_command(self, command: bytes) -> None:
        self._commands.append(command)

    async def _flush_pending(self) -> None:
        self.written.append(b"".join(self._commands))
        self._commands.clear()

    async def publish(self, subject: str, _payload: bytes = b"") -> None:
        self.buffered.append(subject)


def received(client: FakeClient, reply: str = REPLY) -> Msg:
    return Msg(cast("Any", client), reply=reply)


@pytest.mark.parametrize("line_break", ["\r\n", "\n", "\r"])
def test_a_line_break_in_the_value_of_a_header_adds_no_header(line_break: str) -> None:
    forged = f"1{line_break}Nats-Msg-Id: another{line_break}{line_break}body"
    headers = {"ce-id": forged, "ce-type": "opened"}
    raw = encode_headers(headers)
    assert raw.count(b"\r") == raw.count(b"\n") == len(headers) + 2
    assert parse_headers(raw.removeprefix(HEADERS_START)) == {
        "ce-id": forged.replace("\r", " ").replace("\n", " "),
        "ce-type": "opened",
    }


async def test_messages_are_acknowledged_in_one_write_and_each_once() -> None:
    client = FakeClient()
    messages = [received(client, f"{REPLY}{number}") for number in range(2)]
    await hpub.acknowledge(cast("Any", client), messages)
    assert client.written == [f"PUB {REPLY}0 0\r\n\r\nPUB {REPLY}1 0\r\n\r\n".encode()]
    assert all(message.is_acked for message in messages)
    with pytest.raises(nats.errors.Error):
        await hpub.acknowledge(cast("Any", client), messages)
    assert len(client.written) == 1


async def test_acknowledgements_are_buffered_while_disconnected() -> None:
    client = FakeClient(is_connected=False)
    messages = [received(client, f"{REPLY}{number}") for number in range(2)]
    await hpub.acknowledge(cast("Any", client), messages)
    assert (client.written, client.buffered) == ([], [f"{REPLY}0", f"{REPLY}1"])
    assert all(message.is_acked for message in messages)

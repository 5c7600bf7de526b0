"""A connection whose server is frozen or unreachable while much data waits to be sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import nats.errors
import pytest

from hogsend.contract.errors import Unavailable
from hogsend.transport import nats_client
from hogsend.transport.nats_client import NatsClient
from hogsend.transport.publisher import OutgoingMessage, Publisher
from tests.waiting import PATIENCE_SECONDS, eventually

LARGE = 16 * 1024 * 1024
"""More bytes than fit into the buffers of both sockets while no data is read."""
INFO = {"server_id": "x", "version": "2.12.0", "max_payload": LARGE, "headers": True, "proto": 1}


class Server:
    """Answers PINGs; once frozen, it reads no more from its existing connections."""

    def __init__(self) -> None:
        self.connections: list[asyncio.StreamWriter] = []
        self.port = 0
        self.received = 0
        """Messages that were received."""
        self._read = set[asyncio.StreamWriter]()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(writer)
        self._read.add(writer)
        writer.write(b"INFO %s\r\n" % json.dumps(INFO).encode())
        while writer in self._read and (line := await reader.readline()):
            if line == b"PING\r\n":
                writer.write(b"PONG\r\n")
            elif line.startswith(b"HPUB "):
                await reader.readexactly(int(line.split()[-1]) + 2)
                self.received += 1

    def freeze(self) -> None:
        """Stop reading from the existing connections."""
        for writer in self._read:
            transport: Any = writer.transport
            transport.pause_reading()
        self._read.clear()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    yield server
    listening.close()
    for writer in server.connections:
        writer.transport.abort()
    await listening.wait_closed()


async def stuck(server: Server, **options: Any) -> tuple[NatsClient, asyncio.Task[None]]:
    """Return a client with more data to send than a frozen server accepts, and its sending task."""
    client = NatsClient()
    await client.connect(f"nats://127.0.0.1:{server.port}", **options)
    server.freeze()
    sending = asyncio.create_task(client.publish("x", bytes(LARGE)))
    transport: Any = client._transport
    await eventually(lambda: transport._io_writer.transport.get_write_buffer_size() > 0)
    return client, sending


async def test_a_connection_to_a_frozen_server_is_replaced(server: Server) -> None:
    client, sending = await stuck(
        server, ping_interval=0.01, max_reconnect_attempts=-1, reconnect_time_wait=0
    )
    await eventually(lambda: client.stats["reconnects"])
    sending.cancel()
    await client.close()


async def test_an_abandoned_message_is_not_sent_over_the_next_connection(server: Server) -> None:
    client, sending = await stuck(server, max_reconnect_attempts=-1, reconnect_time_wait=0)
    with pytest.raises(Unavailable):
        await Publisher(client).publish(OutgoingMessage("x", b"{}", {}), within=0)
    await client._process_op_err(nats.errors.StaleConnectionError())
    await eventually(lambda: client.is_connected)
    # The server has processed all data that was sent before.
    await client.flush()
    assert (client.stats["reconnects"], server.received) == (1, 0)
    sending.cancel()
    await client.close()


async def test_a_connection_to_a_frozen_server_is_closed(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats_client, "CLOSE_SECONDS", 0)
    client, sending = await stuck(server)
    also_sending = asyncio.create_task(client.publish("x", bytes(LARGE)))
    await eventually(lambda: client.pending_data_size > LARGE)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await client.close()
        await asyncio.wait({sending, also_sending})
    assert isinstance(also_sending.exception(), nats.errors.ConnectionClosedError)


async def test_a_cancelled_close_leaves_no_connection_and_is_reported(server: Server) -> None:
    closed: list[str] = []

    async def on_closed() -> None:
        closed.append("closed")

    client, sending = await stuck(server, closed_cb=on_closed)
    client._resp_sub_prefix = bytearray(b"_INBOX.x.")
    transport: Any = client._transport
    closing = asyncio.create_task(client.close())
    await eventually(lambda: client.is_closed)
    closing.cancel()
    await asyncio.wait({closing, sending}, timeout=PATIENCE_SECONDS)
    assert closing.cancelled()
    assert transport._io_writer.transport.get_write_buffer_size() == 0
    assert closed == ["closed"]
    # Otherwise requests on the next connection would wait for replies on an inbox of this one.
    assert client._resp_sub_prefix is None

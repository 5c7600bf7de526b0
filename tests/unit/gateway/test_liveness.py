"""The listener that serves `/livez` on a port of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from hogsend.contract.errors import CannotStart
from hogsend.service.tasks import cancel_all
from services.gateway import liveness
from services.gateway.liveness import MAX_CONNECTIONS, LivenessListener
from tests.ports import free_port
from tests.waiting import eventually

ALIVE = b'{"status":"alive"}'


@pytest.fixture
async def port() -> AsyncIterator[int]:
    port = free_port()
    serving = asyncio.create_task(LivenessListener("127.0.0.1", port).serve())
    await eventually(lambda: listens(port))
    yield port
    await cancel_all(serving)


async def listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return False
    writer.close()
    return True


async def exchange(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("line", "status", "body"),
    [
        (b"GET /livez HTTP/1.1", b"200", ALIVE),
        (b"GET /livez?probe=1 HTTP/1.0", b"200", ALIVE),
        (b"HEAD /livez HTTP/1.1", b"200", b""),
        (b"POST /livez HTTP/1.1", b"405", b""),
        (b"GET /v1/admin/events HTTP/1.1", b"404", b""),
        (b"nonsense", b"404", b""),
    ],
)
async def test_the_listener_serves_livez_only(
    port: int, line: bytes, status: bytes, body: bytes
) -> None:
    response = await exchange(port, line + b"\r\nHost: here\r\n\r\n")
    head, _, content = response.partition(b"\r\n\r\n")
    assert (head.split(b" ")[1], content) == (status, body)


async def test_a_client_that_sends_too_many_bytes_is_disconnected(port: int) -> None:
    assert await exchange(port, b"GET /livez HTTP/1.1\r\nX: " + b"x" * 100_000) == b""


async def test_a_silent_client_is_disconnected_without_delaying_others(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "REQUEST_SECONDS", 0.2)
    idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MAX_CONNECTIONS)]
    for reader, writer in idle:
        assert await reader.read() == b""
        writer.close()
    assert (await exchange(port, b"GET /livez HTTP/1.1\r\n\r\n")).endswith(ALIVE)


async def test_a_port_in_use_is_refused_and_port_0_starts_no_listener(port: int) -> None:
    await LivenessListener("127.0.0.1", 0).serve()
    with pytest.raises(CannotStart, match="GATEWAY_LIVENESS_PORT"):
        await LivenessListener("127.0.0.1", port).serve()

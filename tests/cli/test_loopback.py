"""The callback server (contract 3.3): valid callbacks, and requests that cannot delay one."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator

import httpx
import pytest

from cli.connect import loopback
from cli.connect.loopback import MAX_CONNECTIONS, Listener, listening
from cli.connect.results import ConnectError
from hogsend.posthog.client_document import CALLBACK_PORTS
from tests.ports import free_port, real_ports
from tests.waiting import PATIENCE_SECONDS, eventually

STATE = "the-state-of-this-run"
GOOD = {"code": "the-code", "state": STATE}


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    async with listening(STATE, [free_port()]) as running:
        yield running


@pytest.fixture
async def loop_errors() -> AsyncIterator[list[object]]:
    """Errors that no task handled; asyncio would print them on the user's terminal."""
    errors: list[object] = []
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _loop, context: errors.append(context))
    yield errors
    loop.set_exception_handler(before)


async def get(listener: Listener, path: str = "/callback", **parameters: str) -> httpx.Response:
    async with httpx.AsyncClient(timeout=PATIENCE_SECONDS) as http:
        return await http.get(f"http://127.0.0.1:{listener.port}{path}", params=parameters)


async def send_raw(listener: Listener, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(request)
    with contextlib.suppress(ConnectionError):
        response = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    return response


async def test_the_code_of_the_callback_is_returned(listener: Listener) -> None:
    response = await get(listener, **GOOD)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["cache-control"] == "no-store"
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert "return to your terminal" in response.text
    assert not re.search(r"the-code|the-state|https?://|<script|src=", response.text)
    assert await listener.code(1) == "the-code"


@pytest.mark.parametrize(
    ("parameters", "status", "verdict"),
    [
        ({"error": "access_denied"}, 200, "consent_denied"),
        ({"error": "access_denied", "state": "wrong"}, 200, "consent_denied"),
        ({"error": "server_error", "state": STATE}, 200, "exchange_failed"),
        ({"error": "<b>x</b>"}, 200, "exchange_failed"),
        ({"code": "the-code"}, 400, "state_mismatch"),
        ({"code": "the-code", "state": ""}, 400, "state_mismatch"),
        ({"code": "the-code", "state": "wrong"}, 400, "state_mismatch"),
        ({"code": "the-code", "state": "ŝtato"}, 400, "state_mismatch"),
        ({"state": STATE}, 400, "exchange_failed"),
        ({"state": STATE, "code": ""}, 400, "exchange_failed"),
    ],
)
async def test_a_failed_callback_ends_the_run_with_its_verdict(
    listener: Listener, parameters: dict[str, str], status: int, verdict: str
) -> None:
    response = await get(listener, **parameters)
    assert response.status_code == status
    assert response.headers["content-type"].startswith("text/html")
    assert not re.search(r"the-code|the-state|<b>", response.text)
    with pytest.raises(ConnectError) as stopped:
        await listener.code(1)
    assert stopped.value.verdict == verdict
    assert "<b>" not in str(stopped.value)


async def test_the_first_callback_is_final(listener: Listener) -> None:
    assert (await get(listener, code="c", state="wrong")).status_code == 400
    again = await get(listener, **GOOD)
    assert again.status_code == 410
    assert again.headers["content-type"].startswith("text/plain")
    with pytest.raises(ConnectError):
        await listener.code(1)


async def test_a_callback_with_a_repeated_parameter_is_refused(listener: Listener) -> None:
    assert (await get(listener, f"/callback?state={STATE}&state=x&code=c")).status_code == 400
    with pytest.raises(ConnectError):
        await listener.code(1)


@pytest.mark.parametrize("path", ["/", "/favicon.ico", "/callback/", "/callbacks", "//x/callback"])
async def test_a_request_for_another_path_does_not_end_the_wait(
    listener: Listener, path: str
) -> None:
    assert (await get(listener, path)).status_code == 404
    await get(listener, **GOOD)
    assert await listener.code(1) == "the-code"


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "OPTIONS", "DELETE"])
async def test_a_request_with_another_method_does_not_end_the_wait(
    listener: Listener, method: str
) -> None:
    async with httpx.AsyncClient(timeout=PATIENCE_SECONDS) as http:
        url = f"{listener.redirect_uri}?code=stolen&state={STATE}"
        response = await http.request(method, url)
    assert response.status_code == 405
    assert response.headers["allow"] == "GET"
    assert bool(response.content) is (method != "HEAD")
    await get(listener, **GOOD)
    assert await listener.code(1) == "the-code"


@pytest.mark.parametrize("host", ["evil.example", "localhost:{port}", "127.0.0.1", "127.0.0.1:1"])
async def test_a_request_with_a_foreign_host_header_does_not_end_the_wait(
    listener: Listener, host: str
) -> None:
    async with httpx.AsyncClient(timeout=PATIENCE_SECONDS) as http:
        response = await http.get(
            listener.redirect_uri,
            params={"error": "access_denied"},
            headers={"host": host.format(port=listener.port)},
        )
    assert response.status_code == 403
    await get(listener, **GOOD)
    assert await listener.code(1) == "the-code"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /callback HTTP/1.1\r\n\r\n", b"403"),
        (b"GET /callback HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nHost: x\r\n\r\n", b"403"),
        (b"GET /callback?%s HTTP/1.1\r\nHost: 127.0.0.1:%%d\r\n\r\n" % (b"a=1&" * 99), b"400"),
        (b"GET http://127.0.0.1/callback HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n", b"404"),
        (b"GET http://[/callback HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n", b"400"),
        (b"\x16\x03\x01 tls\r\n\r\n", b"400"),
        (b"GET /callback\r\n\r\n", b"400"),
        (b"GET /" + b"x" * 70_000, b"431"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", b"431"),
    ],
)
async def test_a_malformed_request_does_not_end_the_wait(
    listener: Listener, loop_errors: list[object], request_: bytes, status: bytes
) -> None:
    response = await send_raw(listener, request_.replace(b"%d", str(listener.port).encode()))
    assert response.startswith(b"HTTP/1.1 " + status) or (status == b"431" and response == b"")
    await get(listener, **GOOD)
    assert await listener.code(1) == "the-code"
    assert loop_errors == []


async def test_incomplete_requests_do_not_block_the_callback(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A request is not closed for the time that it takes.
    monkeypatch.setattr(loopback, "HEAD_SECONDS", 3600.0)
    readers: list[asyncio.StreamReader] = []
    async with contextlib.AsyncExitStack() as stack:
        for number in range(3 * MAX_CONNECTIONS):
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            readers.append(reader)
            stack.callback(writer.close)
            writer.write(b"GET /call" if number % 2 else b"")
        # Connections are accepted in order, so all of them are served by now.
        await get(listener, "/favicon.ico")
        assert len(listener._open) <= MAX_CONNECTIONS
        with contextlib.suppress(ConnectionError):
            oldest = await asyncio.wait_for(readers[0].read(), PATIENCE_SECONDS)
            assert oldest == b"", "the oldest connection was closed"
        response = await get(listener, **GOOD)
        assert response.status_code == 200
        assert await listener.code(1) == "the-code"


async def test_a_request_that_is_not_completed_in_time_is_closed(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loopback, "HEAD_SECONDS", 0.01)
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(b"GET /call")
    assert await reader.read() == b""
    writer.close()
    await eventually(lambda: listener._open == {})


async def test_a_callback_counts_when_the_browser_disconnects_before_the_response(
    listener: Listener,
) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    request = f"GET /callback?code=the-code&state={STATE} HTTP/1.1\r\n"
    writer.write(f"{request}Host: 127.0.0.1:{listener.port}\r\n\r\n".encode())
    await writer.drain()
    writer.transport.abort()
    assert await listener.code(10) == "the-code"


async def test_the_callback_server_listens_on_loopback_only(listener: Listener) -> None:
    assert listener._server is not None
    addresses = [socket.getsockname()[0] for socket in listener._server.sockets]
    assert addresses == ["127.0.0.1"]


async def test_the_callback_port_is_free_after_the_run() -> None:
    port = free_port()
    for _ in range(2):
        async with listening(STATE, [port]) as first:
            assert first.port == port
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            with pytest.raises(ConnectError) as stopped:
                async with listening(STATE, [port]):
                    pass
            assert stopped.value.verdict == "port_unavailable"
        writer.close()
    with pytest.raises(OSError, match=r"refused|failed"):
        await asyncio.open_connection("127.0.0.1", port)


async def test_the_callback_ports_are_those_of_the_client_document() -> None:
    """The only test that listens on the real callback ports."""
    assert CALLBACK_PORTS == (8423, 8424, 8425)
    with real_ports():
        async with contextlib.AsyncExitStack() as stack:
            for port in CALLBACK_PORTS:
                running = await stack.enter_async_context(listening(STATE))
                assert running.redirect_uri == f"http://127.0.0.1:{port}/callback"
            with pytest.raises(ConnectError, match="8423, 8424, 8425") as stopped:
                await stack.enter_async_context(listening(STATE))
            assert stopped.value.verdict == "port_unavailable"


async def test_a_wait_without_a_callback_times_out(listener: Listener) -> None:
    with pytest.raises(ConnectError, match=r"0\.05 seconds") as stopped:
        await listener.code(0.05)
    assert stopped.value.verdict == "callback_timeout"


async def test_idle_connections_are_closed_without_an_error(loop_errors: list[object]) -> None:
    """Browsers open connections that they do not use."""
    async with listening(STATE, [free_port()]) as running:
        idle = [await asyncio.open_connection("127.0.0.1", running.port) for _ in range(3)]
        idle[1][1].write(b"GET /callback")
        # Connections are accepted in order, so all three are served by now.
        await get(running, "/favicon.ico")
    for reader, writer in idle:
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 60) == b""
        writer.close()
    assert loop_errors == []

"""The loopback server (contract 3.3): what it accepts, and what cannot delay the callback."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator

import httpx
import pytest

from cli.connect.loopback import MAX_CONNECTIONS, Listener, listening
from cli.connect.results import ConnectError
from hogsend.posthog.client_document import CALLBACK_PORTS
from tests.ports import free_port, real_ports
from tests.waiting import PATIENCE_SECONDS

STATE = "the-state-of-this-run"
GOOD = {"code": "the-code", "state": STATE}


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    async with listening(STATE, [free_port()]) as running:
        yield running


async def get(listener: Listener, path: str = "/callback", **parameters: str) -> httpx.Response:
    async with httpx.AsyncClient(timeout=PATIENCE_SECONDS) as http:
        return await http.get(f"http://127.0.0.1:{listener.port}{path}", params=parameters)


async def raw(listener: Listener, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(request)
    with contextlib.suppress(ConnectionError):
        answer = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    return answer


async def test_the_first_code_is_returned(listener: Listener) -> None:
    answer = await get(listener, **GOOD)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "return to your terminal" in answer.text
    assert not re.search(r"the-code|the-state|https?://|<script|src=", answer.text)
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
async def test_answers_that_end_the_run(
    listener: Listener, parameters: dict[str, str], status: int, verdict: str
) -> None:
    answer = await get(listener, **parameters)
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/html")
    assert not re.search(r"the-code|the-state|<b>", answer.text)
    with pytest.raises(ConnectError) as stopped:
        await listener.code(1)
    assert stopped.value.verdict == verdict
    assert "<b>" not in str(stopped.value)


async def test_the_first_answer_is_final(listener: Listener) -> None:
    assert (await get(listener, code="c", state="wrong")).status_code == 400
    again = await get(listener, **GOOD)
    assert again.status_code == 410
    assert again.headers["content-type"].startswith("text/plain")
    with pytest.raises(ConnectError):
        await listener.code(1)


async def test_a_repeated_parameter_is_ignored(listener: Listener) -> None:
    assert (await get(listener, f"/callback?state={STATE}&state=x&code=c")).status_code == 400
    with pytest.raises(ConnectError):
        await listener.code(1)


@pytest.mark.parametrize("path", ["/", "/favicon.ico", "/callback/", "/callbacks", "//x/callback"])
async def test_other_paths_do_not_end_the_wait(listener: Listener, path: str) -> None:
    assert (await get(listener, path)).status_code == 404
    await get(listener, **GOOD)
    assert await listener.code(1) == "the-code"


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "OPTIONS", "DELETE"])
async def test_other_methods_do_not_end_the_wait(listener: Listener, method: str) -> None:
    async with httpx.AsyncClient(timeout=PATIENCE_SECONDS) as http:
        url = f"{listener.redirect_uri}?code=stolen&state={STATE}"
        answer = await http.request(method, url)
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET"
    assert bool(answer.content) is (method != "HEAD")
    await get(listener, **GOOD)
    assert await listener.code(1) == "the-code"


@pytest.mark.parametrize("host", ["evil.example", "localhost:{port}", "127.0.0.1", "127.0.0.1:1"])
async def test_foreign_hosts_do_not_end_the_wait(listener: Listener, host: str) -> None:
    async with httpx.AsyncClient(timeout=PATIENCE_SECONDS) as http:
        answer = await http.get(
            listener.redirect_uri,
            params={"error": "access_denied"},
            headers={"host": host.format(port=listener.port)},
        )
    assert answer.status_code == 403
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
async def test_malformed_requests_do_not_end_the_wait(
    listener: Listener, request_: bytes, status: bytes
) -> None:
    answer = await raw(listener, request_.replace(b"%d", str(listener.port).encode()))
    assert answer.startswith(b"HTTP/1.1 " + status) or (status == b"431" and answer == b"")
    await get(listener, **GOOD)
    assert await listener.code(1) == "the-code"


async def test_incomplete_requests_do_not_block_the_callback(listener: Listener) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for number in range(3 * MAX_CONNECTIONS):
            _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            stack.callback(writer.close)
            writer.write(b"GET /call" if number % 2 else b"")
        answer = await get(listener, **GOOD)
        assert answer.status_code == 200
        assert await listener.code(1) == "the-code"


async def test_a_browser_that_hangs_up_still_counts(listener: Listener) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    request = f"GET /callback?code=the-code&state={STATE} HTTP/1.1\r\n"
    writer.write(f"{request}Host: 127.0.0.1:{listener.port}\r\n\r\n".encode())
    await writer.drain()
    writer.transport.abort()
    assert await listener.code(10) == "the-code"


async def test_it_is_reached_on_this_machine_only(listener: Listener) -> None:
    assert listener._server is not None
    names = [one.getsockname()[0] for one in listener._server.sockets]
    assert names == ["127.0.0.1"]


async def test_the_port_is_free_afterwards() -> None:
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


async def test_the_ports_are_those_of_the_client_document() -> None:
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


async def test_no_callback_in_time(listener: Listener) -> None:
    with pytest.raises(ConnectError, match=r"0\.05 seconds") as stopped:
        await listener.code(0.05)
    assert stopped.value.verdict == "callback_timeout"


async def test_connections_that_are_left_open_are_closed_without_a_word() -> None:
    """Browsers open connections that they do not use."""
    said: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, what: said.append(what))
    async with listening(STATE, [free_port()]) as running:
        left = [await asyncio.open_connection("127.0.0.1", running.port) for _ in range(3)]
        left[1][1].write(b"GET /callback")
        # All three are served by now: connections are accepted in order.
        await get(running, "/favicon.ico")
    for reader, writer in left:
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 60) == b""
        writer.close()
    assert said == []

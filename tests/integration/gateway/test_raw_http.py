"""Slow, oversized and malformed HTTP requests, which no HTTP library sends, over a plain socket."""

from __future__ import annotations

import asyncio
import base64
import re
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.running_stack import PYTHONPATH, clean_environment
from tests.waiting import PATIENCE_SECONDS, eventually

KEY = "admin-key-of-this-test"
EVENTS = "/v1/admin/events"


@pytest.fixture(scope="module")
async def port(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[int]:
    """Run a gateway without NATS. Accepted webhooks are in its spool."""
    async with gateway(tmp_path_factory.mktemp("gateway")) as port:
        yield port


@asynccontextmanager
async def gateway(directory: Path, **settings: str) -> AsyncIterator[int]:
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli.main", "serve", "gateway"),
        env={
            **clean_environment(),
            "PYTHONPATH": PYTHONPATH,
            "GATEWAY_PORT": str(port),
            "NATS_URL": f"nats://127.0.0.1:{free_port()}",
            "SPOOL_DIR": str(directory / "spool"),
            "ADMIN_API_KEY": KEY,
            "POSTHOG_WEBHOOK_SECRET": "s",
            "HTTP_REQUEST_TIMEOUT_SECONDS": "1",
            "ADMIN_FAILED_KEY_LIMIT": "100000",
            **settings,
        },
        cwd=directory,
        stderr=asyncio.subprocess.DEVNULL,
    )
    await eventually(lambda: is_live(port), 60)
    yield port
    # The process has survived all requests.
    assert process.returncode is None
    process.terminate()
    assert await asyncio.wait_for(process.wait(), PATIENCE_SECONDS) == 0


@asynccontextmanager
async def connection(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def exchange(port: int, request: bytes) -> bytes:
    """Send bytes, and read until the server closes the connection."""
    async with connection(port) as (reader, writer):
        try:
            writer.write(request)
            await writer.drain()
            return await reader.read(-1)
        except ConnectionResetError:
            return b""


def status(response: bytes) -> int:
    """The status of a response; 0 if the server closed the connection without a response."""
    return int(response.split(b" ", 2)[1]) if response.startswith(b"HTTP/1.1 ") else 0


async def is_live(port: int) -> bool:
    try:
        return status(await get(port, "/livez")) == 200
    except OSError:
        return False


async def get(port: int, target: str, *headers: str, method: str = "GET") -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: x", "Connection: close", *headers, "", ""]
    return await exchange(port, "\r\n".join(lines).encode("latin-1"))


async def test_the_liveness_port_responds_while_all_connections_of_the_gateway_are_in_use(
    tmp_path: Path,
) -> None:
    live, limit = free_port(), 16
    settings = {
        "GATEWAY_LIVENESS_PORT": str(live),
        "GATEWAY_MAX_CONNECTIONS": str(limit),
        "HTTP_REQUEST_TIMEOUT_SECONDS": "60",
    }
    async with gateway(tmp_path, **settings) as port, AsyncExitStack() as idle:
        for _ in range(limit):
            await idle.enter_async_context(connection(port))
        async with connection(port) as (reader, writer):
            writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            waiting = asyncio.create_task(reader.read(1))
            for _ in range(5):
                assert (await get(live, "/livez")).endswith(b'{"status":"alive"}')
            assert status(await get(live, EVENTS)) == 404
            assert not waiting.done()
            await idle.aclose()
            assert await waiting == b"H"


async def test_a_request_whose_headers_never_end_is_closed(port: int) -> None:
    async with connection(port) as (reader, writer):
        writer.write(b"POST /v1/webhooks/posthog HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        await writer.drain()
        assert status(await reader.read(-1)) in {0, 408}


async def test_an_idle_connection_is_closed(port: int) -> None:
    async with connection(port) as (reader, _writer):
        assert await reader.read(-1) == b""


@pytest.mark.parametrize("partial", [b"", b'{"event":'])
async def test_a_body_that_does_not_arrive_returns_408_and_is_not_accepted(
    partial: bytes, port: int
) -> None:
    head = (
        b"POST /v1/webhooks/posthog HTTP/1.1\r\nHost: x\r\nx-posthog-webhook-secret: s\r\n"
        b"Content-Length: 1000\r\nConnection: close\r\n\r\n"
    )
    response = await exchange(port, head + partial)
    assert status(response) == 408
    assert b"did not arrive in time" in response
    metrics = await get(port, "/metrics", f"Authorization: Bearer {KEY}")
    assert b"hogsend_spool_deliveries 0.0" in metrics


@pytest.mark.parametrize(
    "header",
    [f"X-Large: {'x' * 1_000_000}", "\r\n".join(f"X-{number}: y" for number in range(2000))],
    ids=["one large", "many small"],
)
async def test_oversized_headers_are_refused(header: str, port: int) -> None:
    assert status(await get(port, "/livez", header)) in {0, 400, 431}
    assert await is_live(port)


@pytest.mark.parametrize(
    "headers",
    [
        ("Content-Length: 3", "Content-Length: 4"),
        ("Content-Length: -1",),
        ("Content-Length: 3x",),
        ("Transfer-Encoding: chunked, identity",),
        ("Bad Header: x",),
        ("X-Nul: a\x00b",),
    ],
)
async def test_malformed_framing_is_refused(headers: tuple[str, ...], port: int) -> None:
    assert status(await get(port, EVENTS, *headers, method="POST")) in {0, 400}
    assert await is_live(port)


async def test_a_transfer_coding_that_is_not_decoded_is_refused(port: int) -> None:
    headers = ("X-PostHog-Webhook-Secret: s", "Transfer-Encoding: gzip, chunked")
    response = await get(port, "/v1/webhooks/posthog", *headers, method="POST")
    assert status(response) == 501


@pytest.mark.parametrize(("version", "code"), [("1.0", 200), ("1.1", 400)])
async def test_only_http_1_0_may_omit_the_host(version: str, code: int, port: int) -> None:
    request = f"GET /livez HTTP/{version}\r\nConnection: close\r\n\r\n"
    response = await exchange(port, request.encode())
    assert response.split(b" ", 2)[1] == b"%d" % code


async def test_an_admin_route_refuses_a_second_key(port: int) -> None:
    keys = (f"Authorization: Bearer {KEY}", f"authorization: Bearer {KEY}")
    assert status(await get(port, EVENTS, *keys)) == 400


@pytest.mark.parametrize(
    "target",
    [
        EVENTS,
        "//v1/admin/events",
        "/v1//admin/events",
        "/v1/admin//events",
        "/v1/./admin/events",
        "/v1/webhooks/../admin/events",
        "/v1/webhooks/..%2fadmin/events",
        "/v1/webhooks/%2e%2e/admin/events",
        "/v1/admin%2fevents",
        "/V1/Admin/events",
        "/v1/admin/events/",
        "/v1/admin/events;x=1",
        "/v1/admin/events%00",
        "/v1/admin/events%20",
        "/v1/admin/events?key=x",
        "/v1/admin/events#x",
        "/livez/../v1/admin/events",
        "/docs/assets/../../v1/admin/events",
        "http://127.0.0.1/v1/admin/events",
        "http://x@evil/v1/admin/events",
        "\\v1\\admin\\events",
        "/%76%31/admin/events",
    ],
)
@pytest.mark.parametrize(
    "headers",
    [
        (),
        ("X-Original-URL: /livez", "X-Rewrite-URL: /livez"),
        ("X-Forwarded-For: 127.0.0.1", "X-Real-IP: 127.0.0.1", "Forwarded: for=127.0.0.1"),
        ("X-HTTP-Method-Override: OPTIONS",),
        ("Authorization: Bearer",),
        ("Authorization: Bearer ",),
        (f"Authorization: Basic {KEY}",),
        (f"Authorization: Bearer {KEY}x",),
        (f"Authorization: {KEY}",),
        (f"Proxy-Authorization: Bearer {KEY}",),
        (f"Cookie: Authorization=Bearer {KEY}",),
        ("Authorization: Bearer wrong", f"X-Authorization: Bearer {KEY}"),
    ],
    ids=lambda headers: headers[0][:20] if headers else "plain",
)
async def test_an_admin_route_requires_the_key_for_every_spelling_of_path_and_headers(
    target: str, headers: tuple[str, ...], port: int
) -> None:
    assert status(await get(port, target, *headers)) in {0, 400, 401, 404}


async def test_an_admin_route_accepts_the_key(port: int) -> None:
    # 503, because NATS is not running: the request has passed authentication.
    assert status(await get(port, EVENTS, f"Authorization: Bearer {KEY}")) == 503


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "OPTIONS", "HEAD", "PROPFIND", "GET\tX"])
async def test_an_admin_route_requires_the_key_for_every_method(method: str, port: int) -> None:
    assert status(await get(port, EVENTS, method=method)) in {0, 204, 400, 401, 404, 405}


async def test_bytes_after_a_refused_body_are_not_handled_as_a_request(port: int) -> None:
    inner = f"GET {EVENTS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode()
    smuggled = (
        b"POST /v1/webhooks/posthog HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % len(inner)
    )
    response = await exchange(port, smuggled + inner)
    assert response.count(b"HTTP/1.1 ") <= 1
    assert b" 503 " not in response


async def test_pipelined_requests_after_an_accepted_body_are_handled(port: int) -> None:
    deliveries = []
    for number in range(3):
        body = b'{"event": {"event": "e", "distinct_id": "u_%d"}}' % number
        deliveries.append(
            b"POST /v1/webhooks/posthog HTTP/1.1\r\nHost: x\r\nx-posthog-webhook-secret: s\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
    last = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    response = await exchange(port, b"".join(deliveries) + last)
    assert response.count(b"HTTP/1.1 200 OK") == 4
    assert re.findall(rb'"userId":"(\w+)"', response) == [b"u_0", b"u_1", b"u_2"]


async def test_the_operator_is_notified_of_the_spool_while_nats_is_unavailable(
    tmp_path: Path,
) -> None:
    notices: list[bytes] = []

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head.lower())
        assert length is not None
        assert b"webhook-signature: v1," in head.lower()
        notices.append(await reader.readexactly(int(length[1])))
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(receive, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/notices"
    key = base64.b64encode(bytes(32)).decode()
    async with (
        server,
        gateway(tmp_path, OPERATOR_WEBHOOK_URL=url, OPERATOR_WEBHOOK_SECRET=key) as port,
    ):
        body = (
            b'{"event": {"event": "e", "distinct_id": "u", "properties": {}, '
            b'"uuid": "0198c1a5-0000-7000-8000-000000000001"}}'
        )
        head = (
            "POST /v1/webhooks/posthog HTTP/1.1\r\nHost: x\r\nx-posthog-webhook-secret: s\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        assert status(await exchange(port, head.encode() + body)) == 200
        await eventually(lambda: bool(notices), 60)
    assert b'"type":"spool.in_use"' in notices[0]
    assert b'"state":"raised"' in notices[0]

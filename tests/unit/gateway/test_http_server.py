"""The HTTP server, over real sockets: what is sent byte for byte, and what comes back."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from services.gateway.http.connection import MAX_HEAD_BYTES, MAX_HEADERS, READ_BYTES
from services.gateway.http.server import Server
from tests.waiting import eventually

App = Callable[[Any, Any, Any], Awaitable[None]]


async def body_of(receive: Any) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return body + b"|gone"
        body += message["body"]
        more = message["more_body"]
    return body


async def answer(send: Any, body: bytes, *headers: tuple[bytes, bytes], status: int = 200) -> None:
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [length, *headers]})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer with what was asked."""
    names = b",".join(name for name, _ in scope["headers"])
    asked = f"{scope['method']} {scope['path']}?{scope['query_string'].decode()} ".encode()
    await answer(send, asked + names + b" " + await body_of(receive))


async def unread(_scope: Any, _receive: Any, send: Any) -> None:
    """Answer without reading."""
    await answer(send, b"no", status=401)


async def stream(_scope: Any, _receive: Any, send: Any) -> None:
    """Answer in pieces, without saying how much comes."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for piece in (b"one", b"", b"two"):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


class Running:
    """A server that runs, and where."""

    def __init__(self, server: Server, listening: socket.socket) -> None:
        self.server = server
        self.port = listening.getsockname()[1]
        server.listening = lambda: listening
        self.serving = asyncio.create_task(server.serve())

    @property
    def connections(self) -> list[Any]:
        return list(cast("Any", self.server)._shared.connections)

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def exchange(self, sent: bytes) -> bytes:
        """Send, and give all that comes until the connection ends, without the dates."""
        reader, writer = await self.open()
        writer.write(sent)
        answered = await reader.read(-1)
        writer.close()
        return re.sub(rb"date: [^\r]*GMT\r\n", b"", answered)


@asynccontextmanager
async def running(
    app: App, *, max_connections: int = 100, head_seconds: float = 60
) -> AsyncIterator[Running]:
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)  # noqa: FBT003 - it has no name
    server = Server(cast("Any", app), max_connections=max_connections, head_seconds=head_seconds)
    one = Running(server, listening)
    yield one
    server.stop()
    await one.serving


LAST = b"Connection: close\r\n\r\n"


def ok(body: bytes, *, closes: bool = False) -> bytes:
    last = b"connection: close\r\n" if closes else b""
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n%b\r\n%b" % (len(body), last, body)


def refused(status: bytes) -> bytes:
    return b"HTTP/1.1 %b\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % status


POST = b"POST /p HTTP/1.1\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n"
BAD = refused(b"400 Bad Request")
TOO_LARGE = refused(b"431 Request Header Fields Too Large")


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        (b"GET /a HTTP/1.1\r\n" + LAST, ok(b"GET /a? connection ", closes=True)),
        (
            b"GET /a?x=%20 HTTP/1.1\r\n\r\n" + POST + b"Content-Length: 2\r\n\r\nhi"
            b"GET http://h/c?y#z HTTP/1.1\r\n" + LAST,
            ok(b"GET /a?x=%20  ")
            + ok(b"POST /p? content-length hi")
            + ok(b"GET /c?y connection ", closes=True),
        ),
        (
            POST + CHUNKED + b"\r\n2\r\nab\r\n1;ext\r\nc\r\n0\r\nX-Trailer: t\r\n\r\n"
            b"GET / HTTP/1.1\r\n" + LAST,
            ok(b"POST /p? transfer-encoding abc") + ok(b"GET /? connection ", closes=True),
        ),
        (
            b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            ok(b"GET /? connection ", closes=True),
        ),
        (b"OPTIONS * HTTP/1.1\r\n" + LAST, ok(b"OPTIONS *? connection ", closes=True)),
        (b"GET /%C3%A4%2f HTTP/1.1\r\n" + LAST, ok("GET /ä/? connection ".encode(), closes=True)),
        (
            POST + b"Expect: 100-continue\r\nContent-Length: 0\r\n" + LAST,
            ok(b"POST /p? expect,content-length,connection ", closes=True),
        ),
        (
            POST + b"Upgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\nhi",
            ok(b"POST /p? upgrade,connection,content-length hi", closes=True),
        ),
        (
            b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
            ok(b"GET /? upgrade,connection ", closes=True),
        ),
        (b"HEAD / HTTP/1.1\r\n" + LAST, ok(b"HEAD /? connection ", closes=True)[:-19]),
        # Refused, after the answers that are owed.
        (b"GET / HTTP/1.1\r\n\r\nno HTTP\r\n\r\n", ok(b"GET /?  ", closes=True)),
        (POST + CHUNKED + b"\r\nno chunk", ok(b"POST /p? transfer-encoding |gone", closes=True)),
        (b"GET x HTTP/1.1\r\n\r\n", BAD),
        (b"CONNECT h:1 HTTP/1.1\r\n\r\n", BAD),
        (b"GET / HTTP/2.0\r\n\r\n", refused(b"505 HTTP Version Not Supported")),
        (POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", BAD),
        (POST + b"Content-Length: 1\r\n" + CHUNKED + b"\r\n", BAD),
        (b"GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n", BAD),
        (b"GET / HTTP/1.1\r\nA : b\r\n\r\n", BAD),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * (MAX_HEADERS + 1) + b"\r\n", TOO_LARGE),
        (b"GET / HTTP/1.1\r\nA: " + b"x" * (MAX_HEAD_BYTES + READ_BYTES), TOO_LARGE),
    ],
)
async def test_what_is_sent_is_answered(sent: bytes, answered: bytes) -> None:
    async with running(echo) as server:
        assert await server.exchange(sent) == answered


async def test_spaces_around_a_value_do_not_count() -> None:
    async def app(scope: Any, _receive: Any, send: Any) -> None:
        await answer(send, dict(scope["headers"])[b"a"])

    async with running(app) as server:
        assert (await server.exchange(b"GET / HTTP/1.1\r\nA: \t b \t\r\n" + LAST)).endswith(b"\nb")


@pytest.mark.parametrize(
    ("request_line", "answered"),
    [
        (
            b"GET / HTTP/1.1\r\n",
            (
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
                b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
            ),
        ),
        (b"GET / HTTP/1.0\r\n", b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nonetwo"),
        (b"HEAD / HTTP/1.1\r\n", b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"),
    ],
)
async def test_an_answer_of_unknown_length_has_an_end(request_line: bytes, answered: bytes) -> None:
    async with running(stream) as server:
        assert await server.exchange(request_line + LAST) == answered


async def test_head_answered_as_get_ends_like_any_other_answer() -> None:
    async def as_get(scope: Any, _receive: Any, send: Any) -> None:
        scope["method"] = "GET"
        headers = [(b"content-length", b"5")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    head = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n"
    async with running(as_get) as server:
        with capture_logs() as logs:
            answered = await server.exchange(
                b"HEAD /livez HTTP/1.1\r\n\r\nHEAD / HTTP/1.1\r\n" + LAST
            )
    assert (answered, logs) == (head + b"\r\n" + head + b"connection: close\r\n\r\n", [])


async def test_a_client_that_waits_to_be_asked_for_its_body_is_asked() -> None:
    async with running(echo) as server:
        reader, writer = await server.open()
        writer.write(POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n" + LAST)
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"hi")
        assert (await reader.read(-1)).endswith(b" hi")
        writer.close()


async def test_what_follows_an_answer_to_an_unread_body_is_no_request() -> None:
    inner = b"GET /inner HTTP/1.1\r\n\r\n"
    head = POST + b"Content-Length: 1000000\r\n\r\n"
    async with running(unread) as server:
        reader, writer = await server.open()
        writer.write(head)
        answered = await reader.read(-1)
        assert answered.startswith(b"HTTP/1.1 401 ")
        assert b"connection: close" in answered
        # It may finish what it sends: no reset destroys the answer.
        writer.write(inner)
        await writer.drain()
        writer.close()
        await eventually(lambda: not server.connections)


async def test_trailers_without_end_are_not_kept() -> None:
    async with running(echo) as server:
        reader, writer = await server.open()
        writer.write(POST + CHUNKED + b"\r\n0\r\nX: " + b"x" * (MAX_HEAD_BYTES + READ_BYTES))
        assert (await reader.read(-1)).endswith(b"|gone")
        writer.close()


async def test_no_more_is_read_of_a_body_than_somebody_asks_for() -> None:
    asked, body = asyncio.Event(), b"x" * 4_000_000

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await asked.wait()
        await answer(send, b"%d" % len(await body_of(receive)))

    async with running(app) as server:
        reader, writer = await server.open()
        writer.write(POST + b"Content-Length: %d\r\n" % len(body) + LAST + body)
        await eventually(lambda: server.connections and not server.connections[0]._reading)
        assert sum(map(len, server.connections[0]._exchange._pieces)) <= 2 * READ_BYTES
        asked.set()
        assert (await reader.read(-1)).endswith(b"\n4000000")
        writer.close()


async def test_an_answer_waits_for_its_client() -> None:
    sent = []

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(1000):
            await send({"type": "http.response.body", "body": bytes(10_000), "more_body": True})
            sent.append(number)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async with running(app) as server:
        reader, writer = await server.open()
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        await eventually(lambda: server.connections and server.connections[0]._drained is not None)
        assert len(sent) < 1000
        assert len(await reader.read(-1)) > 10_000_000
        writer.close()


@pytest.mark.parametrize("reads", [True, False], ids=["while it is read", "while it waits"])
async def test_a_client_that_goes_away_is_told_of(reads: bool) -> None:
    ended = asyncio.Event()

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        if not reads:
            await body_of(receive)
        assert (await receive())["type"] == "http.disconnect"
        # Nobody is there: it is not an error either.
        await answer(send, b"")
        ended.set()

    async with running(app) as server:
        _, writer = await server.open()
        writer.write(POST + b"Content-Length: %d\r\n\r\n" % (9 if reads else 0))
        await eventually(lambda: server.connections and server.connections[0]._exchange)
        writer.close()
        await ended.wait()


async def fails(_scope: Any, _receive: Any, _send: Any) -> None:
    raise LookupError


async def fails_late(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"x", "more_body": True})
    raise LookupError


async def splits(_scope: Any, _receive: Any, send: Any) -> None:
    await answer(send, b"", (b"x", b"y\r\nset-cookie: z"))


async def says_nothing(_scope: Any, _receive: Any, _send: Any) -> None:
    return


async def too_short(_scope: Any, _receive: Any, send: Any) -> None:
    await answer(send, b"x", (b"content-length", b"2"))


async def too_long(_scope: Any, _receive: Any, send: Any) -> None:
    await answer(send, b"xy", (b"content-length", b"1"))


FAILED = refused(b"500 Internal Server Error")


@pytest.mark.parametrize(
    ("app", "answered"),
    [
        (fails, FAILED),
        (splits, FAILED),
        (says_nothing, FAILED),
        (fails_late, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n"),
        (too_long, b""),
    ],
)
async def test_an_application_that_fails_harms_one_request(app: App, answered: bytes) -> None:
    with capture_logs() as logged:
        async with running(app) as server:
            for _ in range(2):
                assert await server.exchange(b"GET / HTTP/1.1\r\n\r\n") == answered
    assert len(logged) == (0 if app is says_nothing else 2)


async def test_an_answer_that_is_shorter_than_it_says_ends_the_connection() -> None:
    with capture_logs():
        async with running(too_short) as server:
            answered = await server.exchange(b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n")
    assert answered.count(b"HTTP/1.1") == 1


async def test_a_head_that_does_not_end_in_time_is_given_up() -> None:
    async with running(echo, head_seconds=0) as server:
        assert await server.exchange(b"GET / HTTP/1.1\r\n") == refused(b"408 Request Timeout")


async def test_a_connection_without_a_request_is_closed() -> None:
    async with running(echo, head_seconds=0) as server:
        assert await server.exchange(b"") == b""


async def test_more_connections_than_there_may_be_wait_for_the_others() -> None:
    async with running(echo, max_connections=2) as server:
        idle = [await server.open() for _ in range(2)]
        await eventually(lambda: len(server.connections) == 2)
        waiting = asyncio.create_task(server.exchange(b"GET / HTTP/1.1\r\n" + LAST))
        assert await answered_on(idle[0])
        assert not waiting.done()
        idle[1][1].close()
        assert await waiting
        idle[0][1].close()


async def answered_on(opened: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> bool:
    reader, writer = opened
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    assert length is not None
    return bool(await reader.readexactly(int(length[1])))


async def test_a_server_that_stops_answers_what_is_under_way_and_closes_the_rest() -> None:
    begun, going_on = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/slow":
            begun.set()
            await going_on.wait()
        await echo(scope, receive, send)

    async with running(app) as server:
        idle, unused, busy = [await server.open() for _ in range(3)]
        assert await answered_on(idle)
        await eventually(lambda: len(server.connections) == 3)
        busy[1].write(b"GET /slow HTTP/1.1\r\n\r\n")
        await begun.wait()
        server.server.stop()
        assert await idle[0].read(-1) == b""
        with pytest.raises(OSError):  # noqa: PT011 - refused
            await server.open()
        # Connected before the stop, so it gets its answer.
        unused[1].write(b"GET / HTTP/1.1\r\n\r\n")
        assert b"connection: close" in await unused[0].read(-1)
        assert not server.serving.done()
        going_on.set()
        assert (await busy[0].read(-1)).startswith(b"HTTP/1.1 200 OK")
        await server.serving
        for _, writer in (idle, unused, busy):
            writer.close()


async def test_what_cannot_be_accepted_now_is_accepted_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.gateway.http.server.RETRY_SECONDS", 0)
    async with running(echo) as server:
        full, accept = [OSError(24, "Too many open files")], socket.socket.accept

        def failing(self: socket.socket) -> Any:
            if full:
                raise full.pop()
            return accept(self)

        monkeypatch.setattr(socket.socket, "accept", failing)
        assert await server.exchange(b"GET / HTTP/1.1\r\n" + LAST)
        assert not full

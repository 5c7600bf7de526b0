"""nats-py's client with its fixes: late PONGs, cancellation, headers, and closing."""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections.abc import Callable, Coroutine
from typing import Any, cast
from urllib.parse import urlparse

import nats.errors
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from nats.aio.client import Client, Srv
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.aio.transport import TcpTransport
from nats.js import JetStreamContext

from hogsend.transport import received_message
from hogsend.transport.hpub import encode_headers
from hogsend.transport.nats_client import MessageHandler, NatsClient
from hogsend.transport.received_message import parse_headers
from hogsend.transport.tls import TlsClient
from tests.waiting import PATIENCE_SECONDS, eventually


async def test_a_pong_for_a_cancelled_flush_is_not_taken_for_the_next_one() -> None:
    client = NatsClient()
    loop = asyncio.get_running_loop()
    late, next_one = loop.create_future(), loop.create_future()
    late.cancel()
    client._pongs += [late, next_one]
    await client._process_pong()
    assert not next_one.done()
    await client._process_pong()
    assert next_one.done()


async def test_servers_that_the_cluster_no_longer_announces_are_dropped() -> None:
    client = NatsClient()
    client.options["dont_randomize"] = True
    named = Srv(urlparse("nats://nats.example.com:4222"))
    client._server_pool, client._current_server = [named], named
    for start in range(20):
        # Both servers get a new address at each start.
        announced = [f"10.0.{start}.{number}:4222" for number in (1, 2)]
        await client._process_info({"connect_urls": announced})
    # A server outside a cluster announces no addresses.
    await client._process_info({"connect_urls": []})
    pool = [server.uri.netloc for server in client._server_pool]
    assert pool[0] == "nats.example.com:4222"
    assert pool[1:3] == ["10.0.19.1:4222", "10.0.19.2:4222"]
    # All servers may be down for a moment, and any of them may be the first to return.
    assert pool[3:] == ["10.0.18.1:4222", "10.0.18.2:4222", "10.0.17.1:4222"]


@pytest.mark.parametrize("headers", [None, {"ce-id": "1"}])
async def test_a_message_that_is_too_large_with_its_headers_is_not_sent(
    headers: dict[str, str] | None,
) -> None:
    """The server would close the connection, with all messages that are in flight on it."""
    client = NatsClient()
    client._max_payload = 100
    fitting = bytes(100 - (len(encode_headers(headers)) if headers else 0))
    for send in (client.publish, client.request):
        with pytest.raises(nats.errors.MaxPayloadError):
            await send("a", fitting + b"x", headers=headers)
    # Accepted, and then refused because the client is not connected.
    with pytest.raises(nats.errors.OutboundBufferLimitError):
        await client.publish("a", fitting, headers=headers)


class Attempt:
    """A step of connecting that swallows a cancellation, as `wait_for` of Python 3.11 does."""

    def __init__(self, outcome: Exception | None) -> None:
        self.times = 0
        self._outcome = outcome

    async def __call__(self, *_: object) -> None:
        self.times += 1
        try:
            await asyncio.sleep(PATIENCE_SECONDS)
        except asyncio.CancelledError:
            if self._outcome is not None:
                raise self._outcome from None


@pytest.mark.parametrize("step", ["_connect_to_server", "_process_connect_init"])
@pytest.mark.parametrize("outcome", [OSError("refused"), None])
async def test_connecting_ends_when_it_is_cancelled_as_an_attempt_ends(
    step: str, outcome: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = Attempt(outcome)

    async def succeed(client: Client, *_: object) -> None:
        client._current_server = client._server_pool[0]

    client = NatsClient()

    async def attempt_of_this(attempting: Client, *_: object) -> None:
        # A client of an earlier test may still be connecting.
        if attempting is client:
            await attempt()

    for name in ("_connect_to_server", "_process_connect_init"):
        monkeypatch.setattr(Client, name, succeed)
    monkeypatch.setattr(Client, step, attempt_of_this)
    connecting = asyncio.create_task(
        client.connect("nats://127.0.0.1:1", max_reconnect_attempts=-1, reconnect_time_wait=0)
    )
    await eventually(lambda: attempt.times)
    connecting.cancel()
    await asyncio.wait({connecting}, timeout=PATIENCE_SECONDS)
    assert connecting.cancelled()
    assert attempt.times == 1


async def test_a_task_can_connect_after_an_earlier_cancellation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def succeed(client: Client, *_: object) -> None:
        client._current_server = client._server_pool[0]

    for name in ("_connect_to_server", "_process_connect_init"):
        monkeypatch.setattr(Client, name, succeed)

    async def cancelled_and_continues() -> bool:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        client = NatsClient()
        await client.connect("nats://127.0.0.1:1")
        return client._current_server is not None

    task = asyncio.create_task(cancelled_and_continues())
    await asyncio.sleep(0)
    task.cancel()
    assert await task


WAITING: dict[str, Callable[[NatsClient], Coroutine[Any, Any, Any]]] = {
    "request": lambda client: client.request("hogsend.any"),
    "flush": lambda client: client.flush(),
    "_flush_pending": lambda client: client._flush_pending(),
}


@pytest.mark.parametrize("name", WAITING)
async def test_a_cancelled_wait_of_nats_py_ends(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = Attempt(None)
    monkeypatch.setattr(Client, name, lambda *_: waiting())
    task = asyncio.create_task(WAITING[name](NatsClient()))
    await eventually(lambda: waiting.times)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_reply_together_with_a_cancellation_does_not_undo_it() -> None:
    client = NatsClient()
    client._resp_sub_prefix = bytearray(b"_INBOX.")

    async def publish(*_: object, **__: object) -> None:
        pass

    client.publish = publish  # type: ignore[method-assign]
    task = asyncio.create_task(client.request("hogsend.any", timeout=PATIENCE_SECONDS))
    await eventually(lambda: client._resp_map)
    for reply in client._resp_map.values():
        reply.set_result(Msg(client))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("name", WAITING)
async def test_a_cancelled_task_can_still_clean_up(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def reply() -> str:
        await asyncio.sleep(0)
        return "done"

    monkeypatch.setattr(Client, name, lambda *_: reply())
    started = asyncio.Event()
    cleaned: list[Any] = []

    async def work() -> None:
        try:
            started.set()
            await asyncio.sleep(PATIENCE_SECONDS)
        finally:
            cleaned.append(await WAITING[name](NatsClient()))

    task = asyncio.create_task(work())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(cleaned) == 1


LINES = st.lists(
    st.one_of(st.binary(), st.from_regex(rb"[ -~]{1,80}:[ \t]?[ -~]*", fullmatch=True))
)


@given(LINES)
@example(
    [b"Nats-Msg-Id: 1", b"ce-type:\tdev", b": no name", b" a : b ", b"a b: c", b"\xfc: u", b""]
)
async def test_headers_are_parsed_as_nats_py_does(lines: list[bytes]) -> None:
    raw = b"\r\n".join(lines)
    parse = NatsClient()._parse_header_lines
    assert parse(raw) == Client._parse_header_lines(raw)
    assert parse(raw) == parse(raw)


async def received(client: Client, headers: Any, data: bytes = b"") -> Msg:
    """Return the message that a subscriber of `client` receives."""
    subscription = Subscription(client, 1, "s", pending_msgs_limit=1)
    client._subs[1] = subscription
    await client._process_msg(1, b"s", b"", data, headers)
    message = subscription._pending_queue.get_nowait()
    assert isinstance(message, Msg)
    return message


async def test_headers_of_a_message_are_parsed_once_on_first_access(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def slow(_raw: bytes) -> None:
        pytest.fail("nats-py has parsed the headers")

    parsed = []

    def counted(raw: bytes) -> dict[str, str]:
        parsed.append(raw)
        return parse_headers(raw)

    monkeypatch.setattr(Client, "_parse_header_lines", slow)
    monkeypatch.setattr(received_message, "parse_headers", counted)
    message = await received(NatsClient(), b"NATS/1.0\r\nNats-Msg-Id: 1\r\n\r\n")
    assert parsed == []
    assert message.headers == message.header == {"Nats-Msg-Id": "1"}
    assert len(parsed) == 1
    message.headers = {"other": "2"}
    assert message.headers == {"other": "2"}


@pytest.mark.parametrize(
    "raw",
    [
        None,
        b"NATS/1.0\r\n\r\n",
        b"NATS/1.0\r\na: b\r\nc: d\r\n\r\n",
        b"NATS/1.0 404\r\n\r\n",
        b"NATS/1.0 404 No Messages\r\n\r\n",
        b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 1\r\n\r\n",
        b"NATS/1.0   503\r\n\r\n",
    ],
)
@pytest.mark.parametrize("data", [b"", b"x"])
async def test_a_message_is_built_as_nats_py_does(raw: bytes | None, data: bytes) -> None:
    own, original = await received(NatsClient(), raw, data), await received(Client(), raw, data)
    assert (own.headers, own.data, own.subject) == (
        original.headers,
        original.data,
        original.subject,
    )


@pytest.mark.parametrize(
    "raw", [b"x", b"NATS/1.0", b"NATS/1.0 \xff\xff\xff\r\n\r\n", b"NATS/1.0 404 \xff\r\n\r\n"]
)
async def test_invalid_headers_do_not_end_the_connection(raw: bytes) -> None:
    message = await received(NatsClient(), raw, b"x")
    assert (message.headers, message.data) == (None, b"x")


@pytest.mark.parametrize("raw", [b"NATS/1.0\r\na: b\r\n\r\n", b"NATS/1.0 404\r\n\r\n"])
async def test_a_jetstream_subscription_receives_an_empty_message(raw: bytes) -> None:
    client = NatsClient()
    subscription = Subscription(client, 1, "s", pending_msgs_limit=1)
    unused: Any = None
    subscription._jsi = JetStreamContext._JSI(
        client.jetstream(),
        client,
        "S",
        ordered=False,
        psub=unused,
        sub=subscription,
        ccreq=unused,
    )
    client._subs[1] = subscription
    await client._process_msg(1, b"s", b"", b"", raw)
    assert subscription._pending_queue.get_nowait().headers


def test_long_header_names_are_not_cached() -> None:
    cache_info = received_message.cached_header_name.cache_info
    before = cache_info().currsize
    NatsClient._parse_header_lines(b"x" * (received_message.MAX_CACHED_NAME + 1) + b": 1")
    assert cache_info().currsize == before
    assert cache_info().maxsize is not None


class Subscribed:
    """The parts of nats-py's subscription that these tests use."""

    _id = 7


async def subscribed(monkeypatch: pytest.MonkeyPatch, on_message: MessageHandler) -> NatsClient:
    async def subscribe(_client: Client, _subject: str, cb: object) -> Subscribed:
        assert asyncio.iscoroutinefunction(cb)
        return Subscribed()

    monkeypatch.setattr(Client, "subscribe", subscribe)
    client = NatsClient()
    await client.subscribe_inline("a", on_message)
    return client


async def test_an_inline_handler_is_called_as_a_message_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    messages: list[Msg] = []
    client = await subscribed(monkeypatch, messages.append)
    await client._process_msg(7, b"a", b"r", b"x", b"NATS/1.0\r\nk: v\r\n\r\n")
    await client._process_msg(7, b"b", b"", b"", b"")
    assert [
        (message.subject, message.reply, message.data, message.headers) for message in messages
    ] == [
        ("a", "r", b"x", {"k": "v"}),
        ("b", "", b"", None),
    ]
    assert (client.stats["in_msgs"], client.stats["in_bytes"]) == (2, 1)


async def test_an_inline_handler_that_raises_does_not_stop_reading(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reported: list[Exception] = []

    def fails(_message: Msg) -> None:
        raise ValueError("not handled")

    async def report(error: Exception) -> None:
        reported.append(error)

    client = await subscribed(monkeypatch, fails)
    client._error_cb = report
    await client._process_msg(7, b"a", b"", b"x", b"")
    assert [str(error) for error in reported] == ["not handled"]


async def test_an_inline_handler_is_not_called_after_its_subscription(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    messages: list[Msg] = []
    client = await subscribed(monkeypatch, messages.append)
    client._remove_sub(7)
    await client._process_msg(7, b"a", b"", b"x", b"")
    assert not messages


async def test_writes_work_on_a_lost_connection_and_with_an_empty_chunk() -> None:
    """From Python 3.12 on, the first raises `TypeError` and the second never returns."""
    server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = NatsClient()
    client.options = {"connect_timeout": PATIENCE_SECONDS}
    # Not `async with`: in Python 3.12.1 it waits for a connection that has ended.
    with contextlib.closing(server):
        await client._connect_to_server(Srv(urlparse(f"nats://127.0.0.1:{port}")))
        transport: Any = client._transport
        transport.writelines([b"PING\r\n", b""])
        assert transport._io_writer.transport.get_write_buffer_size() == 0
        await transport.drain()
        transport._io_writer.transport.abort()
        await asyncio.sleep(0)
        transport.writelines([b"PING\r\n"])
        with pytest.raises(ConnectionResetError):
            await transport.drain()


async def test_forked_processes_use_different_inboxes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def connect(*_args: Any, **_kwargs: Any) -> None: ...

    monkeypatch.setattr(Client, "connect", connect)
    first, second = NatsClient(), NatsClient()
    # A fork copies the generator of inbox names.
    second._nuid = copy.deepcopy(first._nuid)
    for client in (first, second):
        await client.connect("nats://127.0.0.1:1")
    assert first.new_inbox() != second.new_inbox()


@pytest.mark.parametrize("error", [OSError("no certificate"), asyncio.CancelledError()])
async def test_a_failed_handshake_drops_its_transport(
    monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    async def fails(_client: NatsClient) -> None:
        raise error

    monkeypatch.setattr(NatsClient, "_process_connect_init", fails)
    client, transport = TlsClient(), TcpTransport()  # type: ignore[no-untyped-call]
    client._transport = transport
    with pytest.raises(type(error)):
        await client._process_connect_init()
    assert client._transport is None, "a close would wait for it without end"


class WebSocket:
    """Stands in for a WebSocket transport of nats-py, which `wait_closed` closes."""

    def __init__(self) -> None:
        self.waits = 0
        self.is_closed = False

    def close(self) -> None: ...

    async def wait_closed(self) -> None:
        self.waits += 1
        if self.waits == 1:
            await asyncio.Event().wait()
        self.is_closed = True


async def test_a_cancelled_close_closes_a_websocket() -> None:
    client, transport = NatsClient(), WebSocket()
    client._flush_queue = asyncio.Queue()
    client._transport = cast("Any", transport)
    client._status = Client.CONNECTED
    closing = asyncio.create_task(client.close())
    await eventually(lambda: bool(transport.waits))
    closing.cancel()
    await asyncio.wait({closing}, timeout=PATIENCE_SECONDS)
    assert closing.cancelled()
    assert transport.is_closed

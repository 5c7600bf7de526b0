"""The client that goes on when an answer comes too late, and ends when it is cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import urlparse

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from nats.aio.client import Client, Srv
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.aio.transport import TcpTransport
from nats.js import JetStreamContext

from hogsend.transport import nats_client
from hogsend.transport.nats_client import NatsClient
from hogsend.transport.tls import TlsClient
from tests.waiting import PATIENCE_SECONDS, eventually


async def test_a_pong_that_nobody_waits_for_any_more_is_no_error_and_no_other_ones() -> None:
    client = NatsClient()
    loop = asyncio.get_running_loop()
    late, next_one = loop.create_future(), loop.create_future()
    late.cancel()
    client._pongs += [late, next_one]
    await client._process_pong()
    assert not next_one.done()
    await client._process_pong()
    assert next_one.done()


async def test_servers_that_are_no_more_are_forgotten() -> None:
    client = NatsClient()
    client.options["dont_randomize"] = True
    named = Srv(urlparse("nats://nats.example.com:4222"))
    client._server_pool, client._current_server = [named], named
    for start in range(20):
        # Both servers have another address after each start.
        told = [f"10.0.{start}.{number}:4222" for number in (1, 2)]
        await client._process_info({"connect_urls": told})
    # A server that knows no other says nothing of any.
    await client._process_info({"connect_urls": []})
    known = [server.uri.netloc for server in client._server_pool]
    assert known[0] == "nats.example.com:4222"
    assert known[1:3] == ["10.0.19.1:4222", "10.0.19.2:4222"]
    # All may be away for a moment, and one of them be back first.
    assert known[3:] == ["10.0.18.1:4222", "10.0.18.2:4222", "10.0.17.1:4222"]


class Attempt:
    """A step of connecting that ends as it is cancelled, as `wait_for` of Python 3.11 makes it."""

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

    async def attempt_of_this(one: Client, *_: object) -> None:
        # One that an earlier test left may be connecting, too.
        if one is client:
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


async def test_who_was_cancelled_before_connects(monkeypatch: pytest.MonkeyPatch) -> None:
    async def succeed(client: Client, *_: object) -> None:
        client._current_server = client._server_pool[0]

    for name in ("_connect_to_server", "_process_connect_init"):
        monkeypatch.setattr(Client, name, succeed)

    async def cancelled_and_goes_on() -> bool:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        client = NatsClient()
        await client.connect("nats://127.0.0.1:1")
        return client._current_server is not None

    task = asyncio.create_task(cancelled_and_goes_on())
    await asyncio.sleep(0)
    task.cancel()
    assert await task


WAITING: dict[str, Callable[[NatsClient], Coroutine[Any, Any, Any]]] = {
    "request": lambda client: client.request("hogsend.any"),
    "flush": lambda client: client.flush(),
    "_flush_pending": lambda client: client._flush_pending(),
}


@pytest.mark.parametrize("name", WAITING)
async def test_what_waits_ends_when_it_is_cancelled(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = Attempt(None)
    monkeypatch.setattr(Client, name, lambda *_: waiting())
    task = asyncio.create_task(WAITING[name](NatsClient()))
    await eventually(lambda: waiting.times)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_answer_that_comes_with_a_cancellation_does_not_undo_it() -> None:
    client = NatsClient()
    client._resp_sub_prefix = bytearray(b"_INBOX.")

    async def publish(*_: object, **__: object) -> None:
        pass

    client.publish = publish  # type: ignore[method-assign]
    task = asyncio.create_task(client.request("hogsend.any", timeout=PATIENCE_SECONDS))
    await eventually(lambda: client._resp_map)
    for answer in client._resp_map.values():
        answer.set_result(Msg(client))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("name", WAITING)
async def test_what_was_cancelled_before_can_still_clean_up(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer() -> str:
        await asyncio.sleep(0)
        return "done"

    monkeypatch.setattr(Client, name, lambda *_: answer())
    begun = asyncio.Event()
    cleaned: list[Any] = []

    async def work() -> None:
        try:
            begun.set()
            await asyncio.sleep(PATIENCE_SECONDS)
        finally:
            cleaned.append(await WAITING[name](NatsClient()))

    task = asyncio.create_task(work())
    await begun.wait()
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
async def test_headers_are_what_nats_py_makes_of_them(lines: list[bytes]) -> None:
    raw = b"\r\n".join(lines)
    read = NatsClient()._parse_header_lines
    assert read(raw) == Client._parse_header_lines(raw)
    assert read(raw) == read(raw)


async def received(client: Client, headers: Any, data: bytes = b"") -> Msg:
    """What a subscriber of `client` is given."""
    subscription = Subscription(client, 1, "s", pending_msgs_limit=1)
    client._subs[1] = subscription
    await client._process_msg(1, b"s", b"", data, headers)
    message = subscription._pending_queue.get_nowait()
    assert isinstance(message, Msg)
    return message


async def test_headers_of_a_message_are_read_with_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(_raw: bytes) -> None:
        pytest.fail("nats-py has read them")

    reads = []

    def counted(raw: bytes) -> dict[str, str]:
        reads.append(raw)
        return known(raw)

    known = nats_client._read
    monkeypatch.setattr(Client, "_parse_header_lines", slow)
    monkeypatch.setattr(nats_client, "_read", counted)
    message = await received(NatsClient(), b"NATS/1.0\r\nNats-Msg-Id: 1\r\n\r\n")
    assert reads == []
    assert message.headers == message.header == {"Nats-Msg-Id": "1"}
    assert len(reads) == 1
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
async def test_a_message_is_what_nats_py_makes_of_it(raw: bytes | None, data: bytes) -> None:
    ours, theirs = await received(NatsClient(), raw, data), await received(Client(), raw, data)
    assert (ours.headers, ours.data, ours.subject) == (theirs.headers, theirs.data, theirs.subject)


@pytest.mark.parametrize(
    "raw", [b"x", b"NATS/1.0", b"NATS/1.0 \xff\xff\xff\r\n\r\n", b"NATS/1.0 404 \xff\r\n\r\n"]
)
async def test_headers_that_are_none_end_no_connection(raw: bytes) -> None:
    message = await received(NatsClient(), raw, b"x")
    assert (message.headers, message.data) == (None, b"x")


@pytest.mark.parametrize("raw", [b"NATS/1.0\r\na: b\r\n\r\n", b"NATS/1.0 404\r\n\r\n"])
async def test_a_subscription_of_jetstreams_gets_an_empty_message_too(raw: bytes) -> None:
    client = NatsClient()
    subscription = Subscription(client, 1, "s", pending_msgs_limit=1)
    nothing: Any = None
    subscription._jsi = JetStreamContext._JSI(
        client.jetstream(),
        client,
        "S",
        ordered=False,
        psub=nothing,
        sub=subscription,
        ccreq=nothing,
    )
    client._subs[1] = subscription
    await client._process_msg(1, b"s", b"", b"", raw)
    assert subscription._pending_queue.get_nowait().headers


def test_no_name_of_any_length_is_remembered() -> None:
    remembered = nats_client._known_name.cache_info
    before = remembered().currsize
    NatsClient._parse_header_lines(b"x" * (nats_client._NAME_BYTES + 1) + b": 1")
    assert remembered().currsize == before
    assert remembered().maxsize is not None


class Subscribed:
    """What nats-py gives for a subscription."""

    _id = 7


async def hearing(monkeypatch: pytest.MonkeyPatch, heard: nats_client.Heard) -> NatsClient:
    async def subscribe(_client: Client, _subject: str, cb: object) -> Subscribed:
        assert asyncio.iscoroutinefunction(cb)
        return Subscribed()

    monkeypatch.setattr(Client, "subscribe", subscribe)
    client = NatsClient()
    await client.hear("a", heard)
    return client


async def test_a_message_is_heard_as_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Msg] = []
    client = await hearing(monkeypatch, heard.append)
    await client._process_msg(7, b"a", b"r", b"x", b"NATS/1.0\r\nk: v\r\n\r\n")
    await client._process_msg(7, b"b", b"", b"", b"")
    assert [(one.subject, one.reply, one.data, one.headers) for one in heard] == [
        ("a", "r", b"x", {"k": "v"}),
        ("b", "", b"", None),
    ]
    assert (client.stats["in_msgs"], client.stats["in_bytes"]) == (2, 1)


async def test_who_fails_to_hear_stops_nobody_from_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Exception] = []

    def fails(_message: Msg) -> None:
        raise ValueError("not heard")

    async def tell(error: Exception) -> None:
        told.append(error)

    client = await hearing(monkeypatch, fails)
    client._error_cb = tell
    await client._process_msg(7, b"a", b"", b"x", b"")
    assert [str(error) for error in told] == ["not heard"]


async def test_nothing_is_heard_after_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Msg] = []
    client = await hearing(monkeypatch, heard.append)
    client._remove_sub(7)
    await client._process_msg(7, b"a", b"", b"x", b"")
    assert not heard


async def test_a_lost_connection_takes_what_is_written_and_an_empty_piece_is_none() -> None:
    """Python 3.12 and later raise `TypeError` for the one, and never end with the other."""
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


async def test_processes_that_were_forked_are_answered_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def connect(*_given: Any, **_options: Any) -> None: ...

    monkeypatch.setattr(Client, "connect", connect)
    first, second = NatsClient(), NatsClient()
    # A fork copies it, too.
    second._nuid = copy.deepcopy(first._nuid)
    for client in (first, second):
        await client.connect("nats://127.0.0.1:1")
    assert first.new_inbox() != second.new_inbox()


@pytest.mark.parametrize("error", [OSError("no certificate"), asyncio.CancelledError()])
async def test_nothing_is_left_of_a_handshake_that_did_not_end(
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

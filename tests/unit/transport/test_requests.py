"""Requests, subscriptions and closes of a connection: their errors, and that they leave nothing."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import nats.errors
import pytest
from nats.aio.msg import Msg

from hogsend.contract.base import Empty
from hogsend.contract.credentials import CREDENTIALS_STATUS, ProviderRef
from hogsend.contract.errors import Forbidden, Unavailable, UnreadableReply
from hogsend.contract.health import ANALYTICS_HEALTH
from hogsend.contract.registry import Endpoint
from hogsend.contract.users import User
from hogsend.transport import connection as transport
from hogsend.transport.connection import Connection
from tests.virtual_time import on_virtual_time, settle
from tests.waiting import PATIENCE_SECONDS, eventually


class Replying(Connection):
    """A connection that returns the same reply to every request."""

    def __init__(self, reply: bytes) -> None:
        super().__init__(User.GATEWAY, "nats://127.0.0.1:1")
        self._reply = reply

    @property
    def connected(self) -> bool:
        return True

    async def request_raw(self, subject: str, *_: Any, **__: Any) -> Msg:
        return Msg(self.client, subject, data=self._reply)


@pytest.mark.parametrize(
    "reply",
    [
        *(b"", b"{", b"[]", b'{"t0ps3cret": 1}', b"\xff", b'"t0ps3cret"', b'{"unread": "\xff"}'),
        b'{"t0ps3cret": ' + b"[" * 2_000 + b"]" * 2_000 + b"}",
    ],
    ids=lambda reply: repr(reply[:24]) if isinstance(reply, bytes) else None,
)
@pytest.mark.parametrize(
    ("endpoint", "request_"),
    [(CREDENTIALS_STATUS, ProviderRef(provider_id="posthog")), (ANALYTICS_HEALTH, Empty())],
)
async def test_the_error_for_an_unreadable_reply_does_not_quote_it(
    reply: bytes, endpoint: Endpoint[Any, Any], request_: Any
) -> None:
    with pytest.raises(UnreadableReply, match=f"the {endpoint.service} service") as refused:
        await Replying(reply).request(endpoint, request_)
    assert "t0ps3cret" not in str(refused.value)
    assert refused.value.__suppress_context__


class Broken(Replying):
    """A connection that is lost while a request is written."""

    async def request_raw(self, subject: str, *_: Any, **__: Any) -> Msg:
        raise ConnectionResetError(subject)


async def test_a_connection_lost_during_a_write_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        await Broken(b"").request(ANALYTICS_HEALTH, Empty())


class Subscribed:
    """A subscription that reports its end."""

    def __init__(self, end: Callable[[], None]) -> None:
        self._end = end

    async def unsubscribe(self) -> None:
        self._end()


class Silent(Replying):
    """A connection whose server accepts a subscription, and sends a PONG when a test allows it."""

    def __init__(self) -> None:
        super().__init__(b"")
        self.client = self  # type: ignore[assignment]
        self.subscriptions: list[str] = []
        self.requested = asyncio.Event()
        self.response = asyncio.get_running_loop().create_future()

    async def subscribe(self, subject: str, **_: Any) -> Subscribed:
        self.subscriptions.append(subject)
        return Subscribed(lambda: self.subscriptions.remove(subject))

    async def flush(self, seconds: int = 10) -> None:
        del seconds
        self.requested.set()
        await self.response


async def ignore(_message: Msg) -> None:
    pass


@pytest.mark.parametrize("error", [nats.errors.FlushTimeoutError(), ConnectionResetError()])
async def test_an_unconfirmed_subscription_is_removed(error: Exception) -> None:
    connection = Silent()
    connection.response.set_exception(error)
    with pytest.raises(Unavailable):
        await connection.listen("hogsend.events.*", ignore, pending_bytes=1)
    assert not connection.subscriptions


async def test_a_cancelled_listen_leaves_no_subscription() -> None:
    connection = Silent()
    listening = asyncio.create_task(connection.listen("hogsend.events.*", ignore, pending_bytes=1))
    await connection.requested.wait()
    assert connection.subscriptions
    listening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await listening
    assert not connection.subscriptions


async def test_a_refused_subject_can_be_subscribed_once_the_server_allows_it() -> None:
    connection, subject = Silent(), "hogsend.events.Paid"
    listening = [
        asyncio.create_task(connection.listen(pattern, ignore, pending_bytes=1))
        for pattern in (subject, "hogsend.events.another")
    ]
    await connection.requested.wait()
    # nats-py passes the server's text on in lower case.
    text = f'permissions violation for subscription to "{subject.lower()}"'
    connection.refusals.process_error(text)
    connection.response.set_result(None)
    with pytest.raises(Forbidden, match=subject):
        await listening[0]
    await listening[1]
    # A server that reloads its configuration keeps the connection.
    await connection.listen(subject, ignore, pending_bytes=1)
    assert connection.subscriptions == ["hogsend.events.another", subject]


class Slow(Connection):
    """A connection whose requests get their reply when the test allows it."""

    def __init__(self) -> None:
        super().__init__(User.GATEWAY, "nats://127.0.0.1:1")
        self.client = self  # type: ignore[assignment]
        self.requested = asyncio.Event()
        self.cancelled = False
        self.response = asyncio.get_running_loop().create_future()

    async def request(self, *_: Any, **__: Any) -> Any:
        self.requested.set()
        try:
            return await self.response
        except asyncio.CancelledError:
            self.cancelled = True
            raise


@pytest.mark.parametrize("refused", [True, False])
async def test_a_request_ends_when_it_is_cancelled_or_refused(refused: bool) -> None:
    connection = Slow()
    request = asyncio.create_task(
        connection.request_raw("hogsend.rpc.ingest.purge", b"", seconds=60)
    )
    await connection.requested.wait()
    if refused:
        connection.refusals.process_error(
            'permissions violation for publish to "hogsend.rpc.ingest.purge"'
        )
    else:
        request.cancel()
    with pytest.raises(Forbidden if refused else asyncio.CancelledError):
        await request
    await eventually(lambda: connection.cancelled)


async def test_a_request_that_cannot_be_written_times_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transport, "WRITE_SECONDS", 0)
    connection = Slow()
    with pytest.raises(nats.errors.TimeoutError):
        await connection.request_raw("hogsend.rpc.ingest.purge", b"", seconds=0)
    await eventually(lambda: connection.cancelled)


async def test_a_reply_is_returned_although_a_refusal_follows() -> None:
    connection = Slow()
    request = asyncio.create_task(
        connection.request_raw("hogsend.rpc.ingest.purge", b"", seconds=60)
    )
    await connection.requested.wait()
    connection.response.set_result(reply := Msg(connection.client))
    await asyncio.sleep(0)
    connection.refusals.process_error(
        'permissions violation for publish to "hogsend.rpc.ingest.purge"'
    )
    assert await request is reply


class Late(Silent):
    """A connection on which every request times out."""

    def __init__(self, *, is_lost: bool) -> None:
        super().__init__()
        self._is_lost = is_lost

    async def request_raw(self, subject: str, *_: Any, **__: Any) -> Msg:
        if self._is_lost:
            # The client has reconnected by the time of the timeout.
            await self._on_disconnect()
        raise nats.errors.TimeoutError(subject)


@pytest.mark.parametrize(
    ("is_nats_up", "is_lost", "silent"),
    [(True, False, "the analytics service"), (False, False, "NATS"), (True, True, "NATS")],
)
@on_virtual_time
async def test_a_timeout_names_the_side_that_does_not_respond(
    is_nats_up: bool, is_lost: bool, silent: str
) -> None:
    connection = Late(is_lost=is_lost)
    if is_nats_up:
        connection.response.set_result(None)
    with pytest.raises(Unavailable, match=rf"^{silent} did not answer within 2 s$"):
        await connection.request(ANALYTICS_HEALTH, Empty(), deadline=2)


@pytest.mark.parametrize("fails", [True, False])
async def test_a_close_completes_even_if_a_hook_fails(fails: bool) -> None:
    connection, ran = Connection(User.GATEWAY, "nats://127.0.0.1:1"), list[str]()
    slots = connection.publisher.slots

    async def removed() -> None:
        ran.append("removed")

    async def hook() -> None:
        assert connection.closed
        ran.append("hook")
        if fails:
            raise RuntimeError("a defect")

    connection.add_close_hook(removed)
    connection.add_close_hook(hook)
    connection.remove_close_hook(removed)
    with pytest.raises(RuntimeError) if fails else nullcontext():
        await connection.close()
    assert ran == ["hook"]
    # Later publishes do not share state with the closed connection.
    assert connection.publisher.slots is not slots


async def test_a_close_waits_a_limited_time_for_its_hooks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transport, "RELEASE_SECONDS", 0.01)
    reported = list[str]()
    connection = Connection(
        User.GATEWAY, "nats://127.0.0.1:1", observer=lambda _event, detail: reported.append(detail)
    )
    written, ended = asyncio.Event(), asyncio.Event()
    unretrieved = list[str]()
    asyncio.get_running_loop().set_exception_handler(
        lambda _loop, context: unretrieved.append(context["message"])
    )

    async def waits_to_be_written() -> None:
        try:
            await written.wait()
        finally:
            await written.wait()
            ended.set()

    connection.add_close_hook(waits_to_be_written)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await connection.close()
    written.set()
    await ended.wait()
    await settle()
    gc.collect()
    assert reported == ["not all messages were released within 0.01 s"]
    assert unretrieved == []

"""What a caller gets for what it asks, and what is left when it gives up."""

from __future__ import annotations

import asyncio
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
from tests.virtual_time import on_virtual_time
from tests.waiting import PATIENCE_SECONDS, eventually


class Answered(Connection):
    """A connection where every request is answered with the same bytes."""

    def __init__(self, answer: bytes) -> None:
        super().__init__(User.GATEWAY, "nats://127.0.0.1:1")
        self._answer = answer

    @property
    def connected(self) -> bool:
        return True

    async def request_raw(self, subject: str, *_: Any, **__: Any) -> Msg:
        return Msg(self.client, subject, data=self._answer)


@pytest.mark.parametrize(
    "answer",
    [
        *(b"", b"{", b"[]", b'{"t0ps3cret": 1}', b"\xff", b'"t0ps3cret"', b'{"unread": "\xff"}'),
        b'{"t0ps3cret": ' + b"[" * 2_000 + b"]" * 2_000 + b"}",
    ],
    ids=lambda answer: repr(answer[:24]) if isinstance(answer, bytes) else None,
)
@pytest.mark.parametrize(
    ("endpoint", "request_"),
    [(CREDENTIALS_STATUS, ProviderRef(provider_id="posthog")), (ANALYTICS_HEALTH, Empty())],
)
async def test_an_answer_of_another_shape_is_an_error_that_quotes_nothing_of_it(
    answer: bytes, endpoint: Endpoint[Any, Any], request_: Any
) -> None:
    with pytest.raises(UnreadableReply, match=f"the {endpoint.service} service") as refused:
        await Answered(answer).request(endpoint, request_)
    assert "t0ps3cret" not in str(refused.value)
    assert refused.value.__suppress_context__


class Broken(Answered):
    """A connection that breaks as a request is written."""

    async def request_raw(self, subject: str, *_: Any, **__: Any) -> Msg:
        raise ConnectionResetError(subject)


async def test_a_connection_that_breaks_as_it_is_written_to_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        await Broken(b"").request(ANALYTICS_HEALTH, Empty())


class Subscribed:
    """A subscription that a test may see the end of."""

    def __init__(self, end: Callable[[], None]) -> None:
        self._end = end

    async def unsubscribe(self) -> None:
        self._end()


class Silent(Answered):
    """A connection whose server takes a subscription, and then says nothing until it is told to."""

    def __init__(self) -> None:
        super().__init__(b"")
        self.client = self  # type: ignore[assignment]
        self.subscriptions: list[str] = []
        self.asked = asyncio.Event()
        self.answer = asyncio.get_running_loop().create_future()

    async def subscribe(self, subject: str, **_: Any) -> Subscribed:
        self.subscriptions.append(subject)
        return Subscribed(lambda: self.subscriptions.remove(subject))

    async def flush(self, seconds: int = 10) -> None:
        del seconds
        self.asked.set()
        await self.answer


async def hear(_message: Msg) -> None:
    pass


@pytest.mark.parametrize("error", [nats.errors.FlushTimeoutError(), ConnectionResetError()])
async def test_what_cannot_be_listened_to_for_certain_is_not_listened_to(error: Exception) -> None:
    connection = Silent()
    connection.answer.set_exception(error)
    with pytest.raises(Unavailable):
        await connection.listen("hogsend.events.*", hear, pending_bytes=1)
    assert not connection.subscriptions


async def test_who_gives_up_before_it_listens_leaves_no_subscription() -> None:
    connection = Silent()
    listening = asyncio.create_task(connection.listen("hogsend.events.*", hear, pending_bytes=1))
    await connection.asked.wait()
    assert connection.subscriptions
    listening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await listening
    assert not connection.subscriptions


async def test_what_was_refused_is_listened_to_once_the_server_allows_it() -> None:
    connection, subject = Silent(), "hogsend.events.Paid"
    listening = [
        asyncio.create_task(connection.listen(one, hear, pending_bytes=1))
        for one in (subject, "hogsend.events.another")
    ]
    await connection.asked.wait()
    # As nats-py tells it, in small letters.
    said = f'permissions violation for subscription to "{subject.lower()}"'
    connection.refusals.read(said)
    connection.answer.set_result(None)
    with pytest.raises(Forbidden, match=subject):
        await listening[0]
    await listening[1]
    # A server that reads its configuration anew keeps the connection.
    await connection.listen(subject, hear, pending_bytes=1)
    assert connection.subscriptions == ["hogsend.events.another", subject]


class Slow(Connection):
    """A connection whose client answers when a test says so."""

    def __init__(self) -> None:
        super().__init__(User.GATEWAY, "nats://127.0.0.1:1")
        self.client = self  # type: ignore[assignment]
        self.asked = asyncio.Event()
        self.cancelled = False
        self.answer = asyncio.get_running_loop().create_future()

    async def request(self, *_: Any, **__: Any) -> Any:
        self.asked.set()
        try:
            return await self.answer
        except asyncio.CancelledError:
            self.cancelled = True
            raise


@pytest.mark.parametrize("refused", [True, False])
async def test_a_request_ends_with_its_caller_and_with_a_refusal(refused: bool) -> None:
    connection = Slow()
    asking = asyncio.create_task(
        connection.request_raw("hogsend.rpc.ingest.purge", b"", seconds=60)
    )
    await connection.asked.wait()
    if refused:
        connection.refusals.read('permissions violation for publish to "hogsend.rpc.ingest.purge"')
    else:
        asking.cancel()
    with pytest.raises(Forbidden if refused else asyncio.CancelledError):
        await asking
    await eventually(lambda: connection.cancelled)


async def test_a_request_that_cannot_be_written_ends_soon_after_its_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transport, "WRITE_SECONDS", 0)
    connection = Slow()
    with pytest.raises(nats.errors.TimeoutError):
        await connection.request_raw("hogsend.rpc.ingest.purge", b"", seconds=0)
    await eventually(lambda: connection.cancelled)


async def test_an_answer_that_came_counts_although_it_is_refused_since() -> None:
    connection = Slow()
    asking = asyncio.create_task(
        connection.request_raw("hogsend.rpc.ingest.purge", b"", seconds=60)
    )
    await connection.asked.wait()
    connection.answer.set_result(answer := Msg(connection.client))
    await asyncio.sleep(0)
    connection.refusals.read('permissions violation for publish to "hogsend.rpc.ingest.purge"')
    assert await asking is answer


class Late(Silent):
    """A connection on which a request is not answered in time."""

    def __init__(self, *, is_lost: bool) -> None:
        super().__init__()
        self._is_lost = is_lost

    async def request_raw(self, subject: str, *_: Any, **__: Any) -> Msg:
        if self._is_lost:
            # It is there again by the end.
            await self._on_disconnect()
        raise nats.errors.TimeoutError(subject)


@pytest.mark.parametrize(
    ("nats_is_there", "is_lost", "silent"),
    [(True, False, "the analytics service"), (False, False, "NATS"), (True, True, "NATS")],
)
@on_virtual_time
async def test_a_request_without_an_answer_blames_who_is_silent(
    nats_is_there: bool, is_lost: bool, silent: str
) -> None:
    connection = Late(is_lost=is_lost)
    if nats_is_there:
        connection.answer.set_result(None)
    with pytest.raises(Unavailable, match=rf"^{silent} did not answer within 2 s$"):
        await connection.request(ANALYTICS_HEALTH, Empty(), deadline=2)


@pytest.mark.parametrize("fails", [True, False])
async def test_a_close_closes_whatever_its_hooks_do(fails: bool) -> None:
    connection, ran = Connection(User.GATEWAY, "nats://127.0.0.1:1"), list[str]()
    waits = connection.publisher.room

    async def forgotten() -> None:
        ran.append("forgotten")

    async def hook() -> None:
        assert connection.closed
        ran.append("hook")
        if fails:
            raise RuntimeError("a defect")

    connection.add_close_hook(forgotten)
    connection.add_close_hook(hook)
    connection.remove_close_hook(forgotten)
    with pytest.raises(RuntimeError) if fails else nullcontext():
        await connection.close()
    assert ran == ["hook"]
    # What is published from now on has nothing to do with the connection before.
    assert connection.publisher.room is not waits


async def test_a_close_does_not_wait_long_for_what_cannot_be_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transport, "GIVE_BACK_SECONDS", 0.01)
    said = list[str]()
    connection = Connection(
        User.GATEWAY, "nats://127.0.0.1:1", observer=lambda _what, detail: said.append(detail)
    )
    written = asyncio.Event()

    async def waits_to_be_written() -> None:
        try:
            await written.wait()
        finally:
            await written.wait()

    connection.add_close_hook(waits_to_be_written)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await connection.close()
    written.set()
    assert said == ["not all was given back within 0.01 s"]

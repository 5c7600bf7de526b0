"""The publisher keeps no reference to an error that its caller has handled."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from hogsend.contract.errors import Forbidden, HogsendError, PublishRejected, Unavailable
from hogsend.transport.publisher import OutgoingMessage, Publisher
from tests.unit.transport.test_publisher_deadlines import FakeClient
from tests.waiting import eventually

MESSAGE = OutgoingMessage("hogsend.events.e", b"{}", {"Nats-Msg-Id": "1"})
REJECTED = b'{"error":{"code":400,"err_code":1,"description":"no"}}'
FULL = b'{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"}}'

Publishing = Callable[[Publisher], Awaitable[object]]


@pytest.fixture(autouse=True)
def _only_counted_references() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def _handled(publishing: Awaitable[object], kind: type[HogsendError]) -> Any:
    try:
        await publishing
    except kind as error:
        return weakref.ref(error)
    raise AssertionError("the message was published")


@pytest.mark.parametrize(
    "publish",
    [
        lambda publisher: publisher.publish(MESSAGE),
        lambda publisher: publisher.publish_and_get_sequence(MESSAGE),
        lambda publisher: publisher.publish_all([MESSAGE, MESSAGE]),
    ],
    ids=["single", "with sequence", "all"],
)
@pytest.mark.parametrize(("reply", "kind"), [(FULL, Unavailable), (REJECTED, PublishRejected)])
async def test_no_reference_to_the_error_of_a_reply_is_kept(
    publish: Publishing, reply: bytes, kind: type[HogsendError]
) -> None:
    client: Any = FakeClient()
    publisher = Publisher(client)
    waiting = asyncio.ensure_future(_settled(publish(publisher), kind))
    await eventually(lambda: client.written)
    for command in b"".join(client.written).split(b"HPUB ")[1:]:
        await client.acknowledge(b"HPUB " + command, reply)
    error = await waiting
    assert error is None or error() is None


async def _settled(publishing: Awaitable[object], kind: type[HogsendError]) -> Any:
    try:
        outcomes = await publishing
    except kind as error:
        return weakref.ref(error)
    # A batch returns permanent rejections, and raises what may be retried.
    assert kind is PublishRejected
    assert isinstance(outcomes, list)
    return None


async def test_no_reference_to_the_error_of_a_missed_deadline_is_kept() -> None:
    client: Any = FakeClient()
    error = await _handled(Publisher(client).publish(MESSAGE, within=0.01), Unavailable)
    assert error() is None


async def test_no_reference_to_the_error_of_a_closed_connection_is_kept() -> None:
    client: Any = FakeClient()
    publisher = Publisher(client)
    waiting = asyncio.ensure_future(_handled(publisher.publish(MESSAGE), Unavailable))
    await eventually(lambda: client.written)
    publisher.connection_closed()
    assert (await waiting)() is None


async def test_a_refused_ack_inbox_fails_each_publish_with_an_error_of_its_own() -> None:
    client: Any = FakeClient()
    publisher = Publisher(client)
    waiting = [
        asyncio.ensure_future(_handled(publisher.publish(MESSAGE), Forbidden)) for _ in range(2)
    ]
    await eventually(lambda: client.written)
    publisher.set_acks_refused("the inbox is refused")
    for publishing in waiting:
        assert (await publishing)() is None
    with pytest.raises(Forbidden, match="inbox is refused") as first:
        await publisher.publish(MESSAGE)
    with pytest.raises(Forbidden, match="inbox is refused") as second:
        await publisher.publish(MESSAGE)
    assert first.value is not second.value


async def test_acknowledging_no_messages_writes_nothing() -> None:
    client: Any = FakeClient()
    await Publisher(client).acknowledge([])
    assert client.written == []

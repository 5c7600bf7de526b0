"""Following a stream: stops, and a new consumer after every kind of loss."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import msgspec
import nats.errors
import pytest
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig

from hogsend.contract.errors import Forbidden
from hogsend.service.tasks import cancel_all
from hogsend.transport.consumer import RETRY_SECONDS
from hogsend.transport.follower import OPENING_SECONDS, Follower
from hogsend.transport.pull import Pull
from tests.unit.transport.test_pull import FakeConnection
from tests.virtual_time import now, on_virtual_time, settle

CONFIG = ConsumerConfig(filter_subject="hogsend.credentials.*.changed", ack_policy=AckPolicy.NONE)


class Server(FakeConnection):
    """A server that creates and deletes consumers."""

    def __init__(self) -> None:
        super().__init__()
        self.observe = lambda event, detail: self.reported.append((event, detail))
        self.reported: list[tuple[str, str]] = []
        self.created: list[str] = []
        self.deleted: list[str] = []
        self.may_reply = asyncio.Event()
        self.may_reply.set()
        self.is_refused = False
        self.is_up = True

    @property
    def connected(self) -> bool:
        return self.is_up

    async def request_raw(self, subject: str, *_: Any, **__: Any) -> Msg:
        verb, name = subject.split(".")[3], subject.split(".")[5]
        reply: dict[str, Any] = {"name": name, "config": {"ack_policy": "none"}}
        if verb == "DELETE":
            self.deleted.append(name)
        else:
            self.created.append(name)
        if self.error is not None:
            raise self.error
        await self.may_reply.wait()
        if self.is_refused:
            reply["error"] = {"code": 403, "description": "not allowed"}
        return Msg(self, data=msgspec.json.encode(reply))  # type: ignore[arg-type]

    async def drain_subscription(self, *_args: Any) -> None:
        pass

    def change(self, data: bytes = b"{}") -> Msg:
        """Deliver a change."""
        message = Msg(self, "hogsend.credentials.posthog.changed", data=data)  # type: ignore[arg-type]
        self.deliver(message)
        return message


def pulls_of(server: Server) -> list[Pull]:
    """Return the pulls of this connection that are still referenced."""
    gc.collect()
    pulls = [each for each in gc.get_objects() if isinstance(each, Pull)]
    return [pull for pull in pulls if pull._connection is server]


def following(server: Server) -> tuple[Follower, asyncio.Task[list[Msg]]]:
    follower = Follower(server, "CREDENTIALS", CONFIG)
    return follower, asyncio.create_task(follower.next())


@on_virtual_time
async def test_stop_ends_a_wait_and_every_later_call() -> None:
    server = Server()
    follower, waiting = following(server)
    await settle()
    follower.stop()
    assert await waiting == []
    assert now() == 0
    await settle()
    assert server.deleted == server.created
    assert await follower.next() == []
    assert len(server.created) == 1


@on_virtual_time
async def test_stop_ends_a_wait_while_the_consumer_is_created() -> None:
    server = Server()
    server.may_reply.clear()
    follower, waiting = following(server)
    await settle()
    follower.stop()
    server.may_reply.set()
    assert await waiting == []
    assert now() == 0


@on_virtual_time
async def test_after_a_cancellation_the_consumer_that_was_being_created_is_used() -> None:
    server = Server()
    server.may_reply.clear()
    follower, waiting = following(server)
    await settle()
    await cancel_all(waiting)
    server.may_reply.set()
    waiting = asyncio.create_task(follower.next())
    await settle()
    change = server.change()
    assert await waiting == [change]
    assert len(set(server.created)) == 1
    follower.stop()


@on_virtual_time
@pytest.mark.parametrize("end", ["stop", "garbage", "close"])
async def test_a_cancellation_while_the_consumer_is_created_leaves_no_consumer(end: str) -> None:
    server = Server()
    server.may_reply.clear()
    follower, waiting = following(server)
    await settle()
    await cancel_all(waiting)
    closing = None
    if end == "stop":
        follower.stop()
    elif end == "garbage":
        del follower, waiting
        gc.collect()
    else:
        closing = asyncio.create_task(server.close())
    await settle()
    # A delete request before the reply to the create request could overtake the create request.
    assert server.deleted == []
    server.may_reply.set()
    await settle()
    assert server.deleted == server.created
    if closing is not None:
        await closing


@on_virtual_time
async def test_a_close_waits_a_second_for_the_consumer_that_a_frozen_server_creates() -> None:
    server = Server()
    server.may_reply.clear()
    _follower, waiting = following(server)
    await settle()
    closing = asyncio.create_task(server.close())
    await asyncio.sleep(OPENING_SECONDS)
    await settle()
    assert server.deleted == server.created
    # The reply to the deletion, which a frozen server does not send either.
    server.may_reply.set()
    await closing
    assert now() == OPENING_SECONDS
    assert await waiting == []
    assert len(server.deleted) == 1


@on_virtual_time
async def test_a_lost_connection_replaces_the_consumer_and_is_not_reported() -> None:
    server = Server()
    follower, waiting = following(server)
    for losses in (1, 2):
        await settle()
        server.stats["reconnects"] += 1
        await asyncio.sleep(5)
        change = server.change()
        assert await waiting == [change]
        assert len(set(server.created)) == losses + 1
        assert server.deleted == server.created[:-1]
        waiting = asyncio.create_task(follower.next())
    assert server.reported == []
    await settle()
    # No reference to an earlier pull is kept.
    assert len(pulls_of(server)) == 1
    await server.close()
    assert await waiting == []
    assert server.deleted == server.created


@on_virtual_time
async def test_a_reply_of_jetstream_in_the_stream_is_dropped() -> None:
    server = Server()
    follower, waiting = following(server)
    await settle()
    server.change(b'{"type":"io.nats.jetstream.api.v1.stream_info_response"}')
    await settle()
    change = server.change()
    assert await waiting == [change]
    follower.stop()


@on_virtual_time
async def test_a_refusal_is_raised_each_time() -> None:
    server = Server()
    server.is_refused = True
    follower = Follower(server, "CREDENTIALS", CONFIG)
    for _ in range(2):
        with pytest.raises(Forbidden):
            await follower.next()


@on_virtual_time
async def test_an_unexpected_error_is_raised_once() -> None:
    server = Server()
    server.error = ZeroDivisionError()
    follower = Follower(server, "CREDENTIALS", CONFIG)
    with pytest.raises(ZeroDivisionError):
        await follower.next()
    server.error = None
    waiting = asyncio.create_task(follower.next())
    await settle()
    change = server.change()
    assert await waiting == [change]
    follower.stop()


@on_virtual_time
async def test_no_request_is_sent_before_there_is_a_connection() -> None:
    server = Server()
    server.is_up = False
    follower, waiting = following(server)
    await asyncio.sleep(10)
    assert server.created == []
    server.is_up = True
    await asyncio.sleep(1)
    assert len(server.created) == 1
    change = server.change()
    assert await waiting == [change]
    server.is_up = False
    other, waits = following(server)
    await settle()
    other.stop()
    assert await waits == []
    follower.stop()


@on_virtual_time
async def test_a_failing_server_is_retried_after_a_pause_and_reported() -> None:
    server = Server()
    server.error = nats.errors.TimeoutError()
    follower, waiting = following(server)
    await asyncio.sleep(10)
    assert 2 < len(server.created) <= 1 + 10 / RETRY_SECONDS
    assert [event for event, _ in server.reported] == ["error"]
    server.error = None
    await asyncio.sleep(1)
    change = server.change()
    assert await waiting == [change]
    follower.stop()


@on_virtual_time
async def test_a_deleted_consumer_is_recreated() -> None:
    server = Server()
    follower, waiting = following(server)
    await settle()
    server.status("409", "Consumer Deleted")
    await asyncio.sleep(1)
    change = server.change()
    assert await waiting == [change]
    assert len(server.created) == 2
    follower.stop()


@on_virtual_time
async def test_a_garbage_collected_follower_leaves_no_consumer() -> None:
    server = Server()
    follower, waiting = following(server)
    await settle()
    server.change()
    await waiting
    del follower, waiting
    gc.collect()
    await settle()
    assert server.deleted == server.created

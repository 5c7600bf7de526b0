"""Following a stream: what ends it, and that it begins again with another consumer."""

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
from hogsend.transport.follower import Follower
from hogsend.transport.pull import Pull
from tests.unit.transport.test_pull import FakeConnection
from tests.virtual_time import now, on_virtual_time, settle

CONFIG = ConsumerConfig(filter_subject="hogsend.credentials.*.changed", ack_policy=AckPolicy.NONE)


class Server(FakeConnection):
    """A server that makes and forgets consumers."""

    def __init__(self) -> None:
        super().__init__()
        self.observe = lambda what, detail: self.said.append((what, detail))
        self.said: list[tuple[str, str]] = []
        self.made: list[str] = []
        self.forgotten: list[str] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.refuses = False
        self.is_there = True

    @property
    def connected(self) -> bool:
        return self.is_there

    async def request_raw(self, subject: str, *_: Any, **__: Any) -> Msg:
        verb, name = subject.split(".")[3], subject.split(".")[5]
        answer: dict[str, Any] = {"name": name, "config": {"ack_policy": "none"}}
        if verb == "DELETE":
            self.forgotten.append(name)
        else:
            self.made.append(name)
        if self.error is not None:
            raise self.error
        await self.may_answer.wait()
        if self.refuses:
            answer["error"] = {"code": 403, "description": "not allowed"}
        return Msg(self, data=msgspec.json.encode(answer))  # type: ignore[arg-type]

    async def drain_subscription(self, *_given: Any) -> None:
        pass

    def change(self, data: bytes = b"{}") -> Msg:
        """Deliver a change."""
        message = Msg(self, "hogsend.credentials.posthog.changed", data=data)  # type: ignore[arg-type]
        self.deliver(message)
        return message


def kept_by(server: Server) -> list[Pull]:
    """Readers on this connection that are not garbage."""
    gc.collect()
    pulls = [one for one in gc.get_objects() if isinstance(one, Pull)]
    return [one for one in pulls if one._connection is server]


def following(server: Server) -> tuple[Follower, asyncio.Task[list[Msg]]]:
    follower = Follower(server, "CREDENTIALS", CONFIG)
    return follower, asyncio.create_task(follower.next())


@on_virtual_time
async def test_an_end_ends_a_wait_and_is_for_good() -> None:
    server = Server()
    follower, waiting = following(server)
    await settle()
    follower.end()
    assert await waiting == []
    assert now() == 0
    await settle()
    assert server.forgotten == server.made
    assert await follower.next() == []
    assert len(server.made) == 1


@on_virtual_time
async def test_an_end_while_the_consumer_is_made_is_heard() -> None:
    server = Server()
    server.may_answer.clear()
    follower, waiting = following(server)
    await settle()
    follower.end()
    server.may_answer.set()
    assert await waiting == []
    assert now() == 0


@on_virtual_time
async def test_a_wait_that_is_cancelled_while_the_consumer_is_made_makes_no_other_one() -> None:
    server = Server()
    server.may_answer.clear()
    follower, waiting = following(server)
    await settle()
    await cancel_all(waiting)
    server.may_answer.set()
    waiting = asyncio.create_task(follower.next())
    await settle()
    change = server.change()
    assert await waiting == [change]
    assert len(set(server.made)) == 1
    follower.end()


@on_virtual_time
async def test_a_lost_connection_costs_a_consumer_and_is_no_trouble() -> None:
    server = Server()
    follower, waiting = following(server)
    for losses in (1, 2):
        await settle()
        server.stats["reconnects"] += 1
        await asyncio.sleep(5)
        change = server.change()
        assert await waiting == [change]
        assert len(set(server.made)) == losses + 1
        assert server.forgotten == server.made[:-1]
        waiting = asyncio.create_task(follower.next())
    assert server.said == []
    await settle()
    # Nothing is kept of those before.
    assert len(kept_by(server)) == 1
    await server.close()
    assert await waiting == []
    assert server.forgotten == server.made


@on_virtual_time
async def test_what_jetstream_itself_has_put_there_is_left_out() -> None:
    server = Server()
    follower, waiting = following(server)
    await settle()
    server.change(b'{"type":"io.nats.jetstream.api.v1.stream_info_response"}')
    await settle()
    change = server.change()
    assert await waiting == [change]
    follower.end()


@on_virtual_time
async def test_a_refusal_is_raised_each_time() -> None:
    server = Server()
    server.refuses = True
    follower = Follower(server, "CREDENTIALS", CONFIG)
    for _ in range(2):
        with pytest.raises(Forbidden):
            await follower.next()


@on_virtual_time
async def test_without_a_connection_nothing_is_asked_until_there_is_one() -> None:
    server = Server()
    server.is_there = False
    follower, waiting = following(server)
    await asyncio.sleep(10)
    assert server.made == []
    server.is_there = True
    await asyncio.sleep(1)
    assert len(server.made) == 1
    change = server.change()
    assert await waiting == [change]
    server.is_there = False
    other, waits = following(server)
    await settle()
    other.end()
    assert await waits == []
    follower.end()


@on_virtual_time
async def test_a_server_that_fails_is_asked_again_after_a_pause_and_told_of() -> None:
    server = Server()
    server.error = nats.errors.TimeoutError()
    follower, waiting = following(server)
    await asyncio.sleep(10)
    assert 2 < len(server.made) <= 1 + 10 / RETRY_SECONDS
    assert [what for what, _ in server.said] == ["error"]
    server.error = None
    await asyncio.sleep(1)
    change = server.change()
    assert await waiting == [change]
    follower.end()


@on_virtual_time
async def test_a_consumer_that_was_deleted_is_made_again() -> None:
    server = Server()
    follower, waiting = following(server)
    await settle()
    server.status("409", "Consumer Deleted")
    await asyncio.sleep(1)
    change = server.change()
    assert await waiting == [change]
    assert len(server.made) == 2
    follower.end()


@on_virtual_time
async def test_a_follower_that_is_garbage_leaves_no_consumer() -> None:
    server = Server()
    follower, waiting = following(server)
    await settle()
    server.change()
    await waiting
    del follower, waiting
    gc.collect()
    await settle()
    assert server.forgotten == server.made

"""A reader of a consumer that has one reader at a time: it reads nothing out of order."""

from __future__ import annotations

import json
from typing import Any

import nats.errors
import pytest
from nats.aio.msg import Msg

from hogsend.contract.partitions import GROUP, partition_consumer
from hogsend.transport.connection import Connection
from hogsend.transport.pinned_consumer import PIN_ID, PinnedConsumer
from hogsend.transport.pull import ConsumerGone
from tests.virtual_time import on_virtual_time


class FakeJetStream(Connection):
    """A connection to a server with one consumer, which answers requests with what is `queued`."""

    def __init__(self) -> None:
        super().__init__("ingest", "nats://127.0.0.1:4222")
        self.client = self.js = self  # type: ignore[assignment]
        self.stats = {"reconnects": 0}
        self.is_closed = False
        self.queued: list[int] = []
        self.pin = "p1"
        self.in_hand = 0
        self.goes_silent = False
        self.gone = False
        self.asked: list[dict[str, Any]] = []
        self.done: list[str] = []

    @property
    def max_payload(self) -> int:
        return 1024

    def new_inbox(self) -> str:
        return "_INBOX_ingest.a"

    async def hear(self, _subject: str, heard: Any) -> Any:
        self.told = heard
        return self

    async def end(self, *_given: Any) -> None:
        self.done.append("unsubscribed")

    async def add_consumer(self, *_given: Any) -> None:
        self.done.append("made")

    async def delete_consumer(self, *_given: Any) -> None:
        self.done.append("deleted")
        self.in_hand = 0

    async def request_raw(self, subject: str, _body: bytes, **_given: Any) -> Any:  # type: ignore[override]
        self.done.append(subject.split(".")[3])
        groups = [{"group": "ingest"}]
        answer: dict[str, Any] = {"num_ack_pending": self.in_hand, "priority_groups": groups}
        if self.gone:
            answer = {"error": {"code": 404, "err_code": 10014, "description": "not found"}}
        return Msg(self, data=json.dumps(answer).encode())  # type: ignore[arg-type]

    async def publish(self, _subject: str, payload: bytes = b"", reply: str = "") -> None:  # type: ignore[override]
        request = json.loads(payload)
        self.asked.append(request)
        for number in self.queued[: request["batch"]]:
            self.in_hand += 1
            ack = f"$JS.ACK.WEBHOOKS.p.1.{number}.{number}.0.0"
            headers = {PIN_ID: self.pin}
            self.told(Msg(self, "hogsend.webhooks.x.1", ack, b"{}", headers))  # type: ignore[arg-type]
        left = request["batch"] - len(self.queued)
        self.queued = self.queued[request["batch"] :]
        if left > 0 and not self.goes_silent:
            self.told(Msg(self, subject=reply, headers={"Status": "404"}))  # type: ignore[arg-type]


def reader(server: FakeJetStream) -> PinnedConsumer:
    return PinnedConsumer(server, "WEBHOOKS", partition_consumer(0, 4))


async def test_the_first_message_makes_it_the_reader_and_it_says_so_ever_after() -> None:
    server = FakeJetStream()
    consumer = reader(server)
    server.queued = [1, 2]
    assert len(await consumer.first()) == 1
    assert consumer.pinned
    assert len(await consumer.more(5)) == 1
    assert await consumer.first() == []
    await consumer.keep()
    assert [request.get("id") for request in server.asked] == [None, "p1", "p1", "p1"]
    assert {request["group"] for request in server.asked} == {GROUP}
    # Nothing is as small, so that nothing is delivered, and nothing waits for it.
    assert (server.asked[-1]["max_bytes"], server.asked[-1]["no_wait"]) == (1, True)


async def test_who_is_not_the_reader_takes_nothing_from_who_is() -> None:
    server = FakeJetStream()
    consumer = reader(server)
    assert await consumer.first() == []
    asked = len(server.asked)
    await consumer.keep()
    await consumer.release()
    assert await consumer.more(0) == []
    assert (len(server.asked), server.done) == (asked, ["made"])


async def test_nobody_is_the_reader_of_a_consumer_that_is_gone() -> None:
    server = FakeJetStream()
    consumer = reader(server)
    server.queued, server.gone = [1], True
    with pytest.raises(ConsumerGone, match="not found"):
        await consumer.first()
    assert not consumer.pinned


async def test_what_another_reader_has_in_hand_comes_before_what_it_did_not_get() -> None:
    server = FakeJetStream()
    consumer = reader(server)
    server.queued, server.in_hand = [7], 3
    assert await consumer.first() == []
    assert not consumer.pinned
    assert server.done == ["made", "INFO", "unsubscribed", "deleted"]
    server.queued = [4, 5, 6, 7]
    assert len(await consumer.first()) == 1
    assert consumer.pinned


async def test_a_reader_that_stays_is_not_asked_about() -> None:
    server = FakeJetStream()
    consumer = reader(server)
    for number in (1, 2, 3):
        server.queued = [number]
        assert len(await consumer.first()) == 1
    assert server.done.count("INFO") == 1


@on_virtual_time
async def test_after_an_answer_without_an_end_it_is_the_reader_no_longer() -> None:
    server = FakeJetStream()
    consumer = reader(server)
    server.queued = [1, 2]
    await consumer.first()
    server.goes_silent = True
    # One has come, and another may have been lost on its way.
    with pytest.raises(nats.errors.TimeoutError):
        await consumer.more(5)
    assert not consumer.pinned


async def test_a_reader_that_lets_go_asks_as_anybody() -> None:
    server = FakeJetStream()
    consumer = reader(server)
    server.queued = [1]
    await consumer.first()
    await consumer.release()
    assert not consumer.pinned
    assert server.done[-1] == "UNPIN"
    await consumer.first()
    assert "id" not in server.asked[-1]

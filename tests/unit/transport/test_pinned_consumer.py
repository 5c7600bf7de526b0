"""A pinned consumer has one reader at a time, which receives its messages in order."""

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
    """A connection to a server with one consumer, which delivers the messages in `queued`."""

    def __init__(self) -> None:
        super().__init__("ingest", "nats://127.0.0.1:4222")
        self.client = self.js = self  # type: ignore[assignment]
        self.stats = {"reconnects": 0}
        self.is_closed = False
        self.queued: list[int] = []
        self.pin = "p1"
        self.unacknowledged = 0
        self.is_silent = False
        self.is_deleted = False
        self.requests: list[dict[str, Any]] = []
        self.calls: list[str] = []

    @property
    def max_payload(self) -> int:
        return 1024

    def new_inbox(self) -> str:
        return "_INBOX_ingest.a"

    async def subscribe_inline(self, _subject: str, on_message: Any) -> Any:
        self.deliver = on_message
        return self

    async def drain_subscription(self, *_args: Any) -> None:
        self.calls.append("unsubscribed")

    async def add_consumer(self, *_args: Any) -> None:
        self.calls.append("created")

    async def delete_consumer(self, *_args: Any) -> None:
        self.calls.append("deleted")
        self.unacknowledged = 0

    async def request_raw(self, subject: str, _body: bytes, **_args: Any) -> Any:  # type: ignore[override]
        self.calls.append(subject.split(".")[3])
        groups = [{"group": "ingest"}]
        reply_body: dict[str, Any] = {
            "num_ack_pending": self.unacknowledged,
            "priority_groups": groups,
        }
        if self.is_deleted:
            reply_body = {"error": {"code": 404, "err_code": 10014, "description": "not found"}}
        return Msg(self, data=json.dumps(reply_body).encode())  # type: ignore[arg-type]

    async def publish(self, _subject: str, payload: bytes = b"", reply: str = "") -> None:  # type: ignore[override]
        request = json.loads(payload)
        self.requests.append(request)
        for number in self.queued[: request["batch"]]:
            self.unacknowledged += 1
            ack = f"$JS.ACK.WEBHOOKS.p.1.{number}.{number}.0.0"
            headers = {PIN_ID: self.pin}
            self.deliver(Msg(self, "hogsend.webhooks.x.1", ack, b"{}", headers))  # type: ignore[arg-type]
        remaining = request["batch"] - len(self.queued)
        self.queued = self.queued[request["batch"] :]
        if remaining > 0 and not self.is_silent:
            self.deliver(Msg(self, subject=reply, headers={"Status": "404"}))  # type: ignore[arg-type]


def reader(server: FakeJetStream) -> PinnedConsumer:
    return PinnedConsumer(server, "WEBHOOKS", partition_consumer(0, 4))


async def test_the_first_message_pins_the_consumer_and_later_requests_carry_the_pin() -> None:
    server = FakeJetStream()
    consumer = reader(server)
    server.queued = [1, 2]
    assert len(await consumer.wait_for_first()) == 1
    assert consumer.is_pinned
    assert len(await consumer.fetch_more(5)) == 1
    assert await consumer.wait_for_first() == []
    await consumer.extend_pin()
    assert [request.get("id") for request in server.requests] == [None, "p1", "p1", "p1"]
    assert {request["group"] for request in server.requests} == {GROUP}
    # No message fits into this byte limit, so the request delivers none and does not wait.
    assert (server.requests[-1]["max_bytes"], server.requests[-1]["no_wait"]) == (1, True)


async def test_a_reader_without_the_pin_sends_no_request_that_would_take_the_pin() -> None:
    server = FakeJetStream()
    consumer = reader(server)
    assert await consumer.wait_for_first() == []
    sent = len(server.requests)
    await consumer.extend_pin()
    await consumer.unpin()
    assert await consumer.fetch_more(0) == []
    assert (len(server.requests), server.calls) == (sent, ["created"])


async def test_a_deleted_consumer_is_not_pinned() -> None:
    server = FakeJetStream()
    consumer = reader(server)
    server.queued, server.is_deleted = [1], True
    with pytest.raises(ConsumerGone, match="not found"):
        await consumer.wait_for_first()
    assert not consumer.is_pinned


async def test_unacknowledged_messages_of_another_reader_come_before_later_ones() -> None:
    server = FakeJetStream()
    consumer = reader(server)
    server.queued, server.unacknowledged = [7], 3
    assert await consumer.wait_for_first() == []
    assert not consumer.is_pinned
    assert server.calls == ["created", "INFO", "unsubscribed", "deleted"]
    server.queued = [4, 5, 6, 7]
    assert len(await consumer.wait_for_first()) == 1
    assert consumer.is_pinned


async def test_the_state_is_requested_only_for_a_new_pin() -> None:
    server = FakeJetStream()
    consumer = reader(server)
    for number in (1, 2, 3):
        server.queued = [number]
        assert len(await consumer.wait_for_first()) == 1
    assert server.calls.count("INFO") == 1


@on_virtual_time
async def test_a_reader_releases_the_pin_after_an_incomplete_reply() -> None:
    server = FakeJetStream()
    consumer = reader(server)
    server.queued = [1, 2]
    await consumer.wait_for_first()
    server.is_silent = True
    # One message has arrived; another may have been lost.
    with pytest.raises(nats.errors.TimeoutError):
        await consumer.fetch_more(5)
    assert not consumer.is_pinned


async def test_requests_after_an_unpin_carry_no_pin() -> None:
    server = FakeJetStream()
    consumer = reader(server)
    server.queued = [1]
    await consumer.wait_for_first()
    await consumer.unpin()
    assert not consumer.is_pinned
    assert server.calls[-1] == "UNPIN"
    await consumer.wait_for_first()
    assert "id" not in server.requests[-1]

"""How requests are decoded, and how a batch with a failing message is processed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from faststream.nats import JStream
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig

from hogsend.contract.errors import Forbidden, InvalidRequest
from hogsend.contract.persons import GetPerson
from hogsend.service.pull_lock import PullLock
from hogsend.service.subscribers import batches
from hogsend.service.subscribers.batches import BatchSubscriber
from hogsend.service.subscribers.decoding import decoder_of
from tests.virtual_time import now, on_virtual_time


def request(body: bytes) -> Any:
    return SimpleNamespace(body=body)


async def test_half_a_character_in_a_request_is_replaced() -> None:
    decoded = await decoder_of(GetPerson)(request(rb'{"distinctId":"cut \ud83d"}'))
    assert decoded == GetPerson(distinct_id="cut \ufffd")


async def test_what_is_no_json_is_an_invalid_request() -> None:
    with pytest.raises(InvalidRequest):
        await decoder_of(GetPerson)(request(b"nonsense"))


class Bus:
    """Records acknowledgements and naks by stream sequence."""

    def __init__(self) -> None:
        self.acknowledged: list[tuple[str, bytes]] = []

    async def publish(self, subject: str, payload: bytes = b"") -> None:
        self.acknowledged.append((subject.split(".")[5], payload[:4]))

    async def flush(self, _seconds: float) -> None:
        """Everything is sent."""

    def message(self, number: int) -> Msg:
        reply = f"$JS.ACK.WEBHOOKS.p.1.{number}.{number}.0.0"
        return Msg(self, "hogsend.webhooks.x", reply, str(number).encode())  # type: ignore[arg-type]


class Batches(BatchSubscriber):
    """A subscriber whose handler fails for message 2, `failures` times."""

    def __init__(self, bus: Bus, failures: int) -> None:
        self._bus = bus
        self._failures = failures
        self.done: list[int] = []

    async def process_message(self, msg: Any) -> Any:
        for message in msg:
            if message.data == b"2" and self._failures:
                self._failures -= 1
                raise RuntimeError("a defect")
        for message in msg:
            self.done.append(int(message.data))
            await message.ack()

    def _connection(self) -> Any:
        return self._bus

    def _report_naks(self, count: int) -> None:
        assert not count


@on_virtual_time
async def test_later_messages_wait_for_the_attempts_of_a_failing_message() -> None:
    bus = Bus()
    # The first failure is that of the whole batch.
    subscriber = Batches(bus, failures=3)
    await subscriber.process_batch([bus.message(number) for number in (1, 2, 3)], attempts=3)
    assert subscriber.done == [1, 2, 3]
    assert now() == 2 * batches.ATTEMPT_SECONDS


@on_virtual_time
async def test_after_its_attempts_a_failing_message_is_nak_ed_and_blocks_no_other() -> None:
    bus = Bus()
    subscriber = Batches(bus, failures=4)
    await subscriber.process_batch([bus.message(number) for number in (1, 2, 3)], attempts=3)
    assert subscriber.done == [1, 3]
    assert now() == 2 * batches.ATTEMPT_SECONDS
    assert ("2", b"-NAK") in bus.acknowledged


class Refused:
    """A consumer that NATS refuses twice; then its connection is closed."""

    def __init__(self) -> None:
        self.started_at: list[float] = []

    async def batches(self) -> AsyncIterator[list[Msg]]:
        self.started_at.append(now())
        if len(self.started_at) < 3:
            raise Forbidden("NATS user 'ingest' may not publish to $JS.API.CONSUMER.MSG.NEXT")
        for batch in list[list[Msg]]():
            yield batch


@on_virtual_time
async def test_a_consumer_that_nats_refuses_is_read_again_after_a_pause() -> None:
    subscriber = Batches(Bus(), failures=0)
    subscriber.stream = JStream("WEBHOOKS", declare=False)
    subscriber.consumer, subscriber.batch = ConsumerConfig(), 10
    subscriber._pull_lock = PullLock()
    source = Refused()
    with patch.object(batches, "Consumer", lambda *_given, **_options: source):
        await subscriber._consume_pull()
    assert source.started_at == [0, batches.REFUSED_SECONDS, 2 * batches.REFUSED_SECONDS]

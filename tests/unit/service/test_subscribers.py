"""How requests are decoded, and what becomes of a batch with a message at fault."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from nats.aio.msg import Msg

from hogsend.contract.errors import InvalidRequest
from hogsend.contract.persons import GetPerson
from hogsend.service.subscribers.batches import BatchSubscriber
from hogsend.service.subscribers.decoding import decoder_of
from tests.virtual_time import on_virtual_time


def request(body: bytes) -> Any:
    return SimpleNamespace(body=body)


async def test_half_a_character_in_a_request_is_replaced() -> None:
    decoded = await decoder_of(GetPerson)(request(rb'{"distinctId":"cut \ud83d"}'))
    assert decoded == GetPerson(distinct_id="cut \ufffd")


async def test_what_is_no_json_is_an_invalid_request() -> None:
    with pytest.raises(InvalidRequest):
        await decoder_of(GetPerson)(request(b"nonsense"))


class Bus:
    """What messages are acknowledged on and given back to."""

    def __init__(self) -> None:
        self.told: list[tuple[str, bytes]] = []

    async def publish(self, subject: str, payload: bytes = b"") -> None:
        self.told.append((subject.split(".")[5], payload[:4]))

    async def flush(self, _seconds: float) -> None:
        """Everything is sent."""

    def message(self, number: int) -> Msg:
        reply = f"$JS.ACK.WEBHOOKS.p.1.{number}.{number}.0.0"
        return Msg(self, "hogsend.webhooks.x", reply, str(number).encode())  # type: ignore[arg-type]


class Batches(BatchSubscriber):
    """A subscriber whose handler fails for message 2, so many times."""

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

    def _noted(self, given_back: int) -> None:
        assert not given_back


@on_virtual_time
async def test_those_behind_a_message_at_fault_wait_for_its_attempts() -> None:
    bus = Bus()
    # The first failure is the whole batch's.
    batches = Batches(bus, failures=3)
    await batches.hand_over([bus.message(number) for number in (1, 2, 3)], attempts=3)
    assert batches.done == [1, 2, 3]


@on_virtual_time
async def test_after_its_attempts_those_behind_it_go_on_and_it_comes_again() -> None:
    bus = Bus()
    batches = Batches(bus, failures=4)
    await batches.hand_over([bus.message(number) for number in (1, 2, 3)], attempts=3)
    assert batches.done == [1, 3]
    assert ("2", b"-NAK") in bus.told

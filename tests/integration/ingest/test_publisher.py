"""Batches on the bus: every message once, whatever the stream has already or can do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from unittest.mock import patch

import msgspec
import pytest

from hogsend.contract.errors import Unavailable
from hogsend.contract.streams import STREAMS, StreamName
from hogsend.transport.connection import Bus
from hogsend.transport.publisher import IN_FLIGHT, GroupPublisher, Outgoing, Publisher
from tests.integration.ingest.driver import Driver


async def reconfigure(driver: Driver, **changes: object) -> None:
    await driver.operator.js.update_stream(STREAMS[StreamName.EVENTS].config.evolve(**changes))


@pytest.fixture
async def bus(driver: Driver) -> AsyncIterator[Bus]:
    async with driver.answering() as (bus, _):
        yield bus


def outgoing(ids: Sequence[int], size: int = 1) -> list[Outgoing]:
    return [
        Outgoing("hogsend.events.e", b"x" * size, {"Nats-Msg-Id": str(id), "n": "a\r\nb\n"})
        for id in ids
    ]


async def ids_on_the_bus(driver: Driver) -> list[str]:
    info = await driver.operator.js.stream_info(StreamName.EVENTS)
    found = []
    for sequence in range(1, info.state.last_seq + 1):
        message = await driver.operator.js.get_msg(StreamName.EVENTS, sequence)
        assert message.headers is not None
        assert set(message.headers) == {"Nats-Msg-Id", "n"}
        found.append(message.headers["Nats-Msg-Id"])
    return found


async def test_a_batch_is_answered_once(
    driver: Driver, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Publisher, "_publish_each")
    assert await Publisher(bus).publish(outgoing(range(4))) == []
    assert await ids_on_the_bus(driver) == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    "known", [[], [0], [1], [3], [0, 1], [2, 3], [1, 2], [0, 3], [0, 1, 2, 3]], ids=str
)
async def test_repeats_anywhere_in_a_batch_are_dropped(
    driver: Driver, bus: Bus, known: list[int]
) -> None:
    publisher = Publisher(bus)
    assert await publisher.publish(outgoing(known)) == []
    assert await publisher.publish(outgoing(range(4))) == []
    assert sorted(await ids_on_the_bus(driver)) == ["0", "1", "2", "3"]


async def test_more_than_one_window_keeps_its_order(driver: Driver, bus: Bus) -> None:
    ids = range(IN_FLIGHT + 3)
    assert await Publisher(bus).publish(outgoing(ids)) == []
    info = await driver.operator.js.stream_info(StreamName.EVENTS)
    assert info.state.messages == len(ids)
    last = await driver.operator.js.get_msg(StreamName.EVENTS, len(ids))
    assert last.headers is not None
    assert last.headers["Nats-Msg-Id"] == str(ids[-1])


async def test_a_stream_without_batches_gets_each_message_for_itself(
    driver: Driver, bus: Bus
) -> None:
    await reconfigure(driver, allow_batched=False)
    assert await Publisher(bus).publish(outgoing(range(4))) == []
    assert await ids_on_the_bus(driver) == ["0", "1", "2", "3"]


@pytest.mark.parametrize("position", range(4))
async def test_what_is_too_large_for_the_stream_is_told_apart(
    driver: Driver, bus: Bus, position: int
) -> None:
    await reconfigure(driver, max_msg_size=200)
    messages = outgoing(range(4))
    messages[position] = msgspec.structs.replace(messages[position], body=b"x" * 300)
    assert await Publisher(bus).publish(messages) == [messages[position]]
    others = {"0", "1", "2", "3"} - {str(position)}
    assert set(await ids_on_the_bus(driver)) == others


async def test_a_missing_stream_is_unavailable(driver: Driver, bus: Bus) -> None:
    await driver.operator.js.delete_stream(StreamName.EVENTS)
    with pytest.raises(Unavailable):
        await Publisher(bus).publish(outgoing(range(4)))


async def test_a_group_publishes_in_the_order_it_was_asked(driver: Driver, bus: Bus) -> None:
    group = GroupPublisher(Publisher(bus))
    assert all(await asyncio.gather(*map(group.publish, outgoing(range(2500)))))
    assert await ids_on_the_bus(driver) == [str(number) for number in range(2500)]


async def test_what_is_too_large_for_a_group_is_told_to_whoever_asked_for_it(
    driver: Driver, bus: Bus
) -> None:
    group = GroupPublisher(Publisher(bus))
    small, large = outgoing([1, 2, 3]), outgoing([4], size=bus.max_payload)
    accepted = await asyncio.gather(*map(group.publish, [*small, *large]))
    assert accepted == [True, True, True, False]
    assert await ids_on_the_bus(driver) == ["1", "2", "3"]


async def test_everybody_in_a_group_hears_that_nats_is_away_and_can_ask_again(
    driver: Driver, bus: Bus
) -> None:
    publisher = Publisher(bus)
    group = GroupPublisher(publisher)
    with patch.object(publisher, "publish", side_effect=Unavailable("away")):
        refused = await asyncio.gather(
            *map(group.publish, outgoing([1, 2, 3])), return_exceptions=True
        )
    assert [type(one) for one in refused] == [Unavailable] * 3
    defect = patch.object(publisher, "publish", side_effect=RuntimeError("a defect"))
    with defect, pytest.raises(Unavailable):
        await group.publish(*outgoing([1]))
    assert await group.publish(*outgoing([1]))
    assert await ids_on_the_bus(driver) == ["1"]

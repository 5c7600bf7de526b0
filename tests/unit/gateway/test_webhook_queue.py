"""The webhook queue: to JetStream while it accepts webhooks, else to the spool, in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from unittest.mock import Mock

import msgspec
import pytest

from hogsend.contract.errors import PublishRejected, SpoolFull, TooLarge, Unavailable
from hogsend.contract.headers import MESSAGE_ID
from hogsend.transport.publisher import OutgoingMessage
from services.gateway.webhooks import webhook_queue
from services.gateway.webhooks.queued_webhook import QueuedWebhook
from services.gateway.webhooks.spool.directory import SpoolDirectory, Spooled
from services.gateway.webhooks.spool.format import record_size
from services.gateway.webhooks.spool.spool import Spool
from services.gateway.webhooks.webhook_queue import DRAIN_BYTES, WebhookQueue
from tests.unit.gateway.fakes import FakeConnection
from tests.waiting import eventually

MIB = 1 << 20
UNAVAILABLE = Unavailable("JetStream did not acknowledge in time")
Fail = Callable[[OutgoingMessage], Exception | None]


def webhook(id: str) -> QueuedWebhook:
    return QueuedWebhook(id, "hogsend.webhooks.posthog", {MESSAGE_ID: id}, b"{}")


def failing(error: Exception, *ids: str) -> Fail:
    """Return a function that fails publishing these messages, or all without `ids`."""
    return lambda message: error if not ids or message.headers[MESSAGE_ID] in ids else None


def accepting(_message: OutgoingMessage) -> Exception | None:
    return None


@pytest.fixture
def bus() -> FakeConnection:
    return FakeConnection()


@pytest.fixture
async def spool(tmp_path: Path) -> AsyncIterator[Spool]:
    spool = Spool(tmp_path, 1_000_000)
    yield spool
    await spool.close()


@pytest.fixture
def queue(bus: FakeConnection, spool: Spool) -> WebhookQueue:
    return WebhookQueue(bus, spool, ack_timeout=1.0)


async def accept(queue: WebhookQueue, *ids: str) -> None:
    for id in ids:
        await queue.accept(webhook(id))


async def spooled(spool: Spool) -> list[str]:
    return [item.webhook.id for item in await spool.head(100)]


async def test_webhooks_go_to_jetstream_while_it_accepts(
    bus: FakeConnection, queue: WebhookQueue
) -> None:
    await accept(queue, "1", "2")
    assert bus.published.ids == ["1", "2"]
    assert (queue.waiting, queue.spooling) == (0, False)


@pytest.mark.parametrize("error", [UNAVAILABLE, TooLarge("too large"), PublishRejected("no")])
async def test_webhooks_that_jetstream_does_not_accept_are_spooled(
    bus: FakeConnection, queue: WebhookQueue, spool: Spool, error: Exception
) -> None:
    bus.published.fail = failing(error)
    await accept(queue, "1")
    assert await spooled(spool) == ["1"]
    assert queue.spooling


async def test_later_webhooks_are_spooled_after_a_spooled_webhook(
    bus: FakeConnection, queue: WebhookQueue, spool: Spool
) -> None:
    bus.published.fail = failing(UNAVAILABLE)
    await accept(queue, "1")
    bus.published.fail = accepting
    await accept(queue, "2", "3")
    assert await spooled(spool) == ["1", "2", "3"]
    # They are not published first, so no sender waits for a timeout.
    assert bus.published.attempts == 1


async def test_the_spool_is_drained_in_order_and_then_bypassed(
    bus: FakeConnection, queue: WebhookQueue, spool: Spool
) -> None:
    bus.published.fail = failing(UNAVAILABLE)
    await accept(queue, *map(str, range(600)))
    bus.published.fail = accepting
    draining = asyncio.create_task(queue.drain_forever())
    await eventually(lambda: not queue.spooling)
    await accept(queue, "direct")
    draining.cancel()
    assert bus.published.ids == [*map(str, range(600)), "direct"]
    assert (spool.count, spool.waiting_bytes) == (0, 0)


async def test_the_drain_is_limited_to_a_few_megabytes_at_a_time(
    bus: FakeConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path, 1 << 30)
    queue = WebhookQueue(bus, spool, ack_timeout=1.0)
    for number in range(20):
        await spool.append(QueuedWebhook(str(number), "s", {MESSAGE_ID: str(number)}, b"x" * MIB))
    sizes: list[int] = []
    head = spool.head

    async def measured(*limits: int) -> list[Spooled]:
        items = await head(*limits)
        sizes.append(sum(len(item.webhook.body) for item in items))
        return items

    monkeypatch.setattr(spool, "head", measured)
    assert await queue._drain(spool)
    assert len(bus.published.ids) == 20
    assert max(sizes) <= DRAIN_BYTES
    await spool.close()


async def test_the_spool_of_an_ended_gateway_is_drained_by_another(
    bus: FakeConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_queue, "ADOPT_SECONDS", 0.01)
    other, own = Spool(tmp_path, 1_000_000), Spool(tmp_path, 1_000_000)
    queue = WebhookQueue(bus, own, ack_timeout=1.0)
    await other.append(webhook("remaining"))
    draining = asyncio.create_task(queue.drain_forever())
    await other.close()
    await eventually(lambda: bus.published.ids == ["remaining"])
    draining.cancel()
    await own.close()


async def test_webhooks_of_an_earlier_process_are_published_first(
    bus: FakeConnection, spool: Spool
) -> None:
    await spool.append(webhook("earlier"))
    queue = WebhookQueue(bus, spool, ack_timeout=1.0)
    await accept(queue, "now")
    assert await queue._drain(spool)
    assert bus.published.ids == ["earlier", "now"]


async def test_draining_waits_for_the_connection(
    bus: FakeConnection, queue: WebhookQueue, spool: Spool
) -> None:
    bus.published.fail = failing(UNAVAILABLE)
    await accept(queue, "1")
    bus.is_up, bus.published.fail = False, accepting
    assert not await queue._drain(spool)
    assert bus.published.attempts == 1
    bus.is_up = True
    assert await queue._drain(spool)
    assert bus.published.ids == ["1"]


async def test_draining_stops_with_jetstream_and_loses_nothing(
    bus: FakeConnection, queue: WebhookQueue, spool: Spool
) -> None:
    bus.published.fail = failing(UNAVAILABLE)
    await accept(queue, "1", "2", "3")
    bus.published.fail = failing(UNAVAILABLE, "2")
    assert not await queue._drain(spool)
    assert await spooled(spool) == ["2"]
    bus.published.fail = accepting
    assert await queue._drain(spool)
    assert sorted(bus.published.ids) == ["1", "2", "3"]


async def test_later_webhooks_do_not_overtake_a_spool_that_could_not_be_drained(
    bus: FakeConnection, queue: WebhookQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_queue, "DRAIN_RETRY_SECONDS", 0)
    bus.published.fail = failing(UNAVAILABLE)
    await accept(queue, "1")
    draining = asyncio.create_task(queue.drain_forever())
    await eventually(lambda: bus.published.attempts > 3)
    assert queue.spooling
    await accept(queue, "2")
    bus.published.fail = accepting
    await eventually(lambda: not queue.spooling)
    draining.cancel()
    assert bus.published.ids == ["1", "2"]


@pytest.mark.parametrize("error", [TooLarge("too large"), PublishRejected("no")])
async def test_a_refused_spooled_webhook_does_not_stop_the_drain_of_others(
    bus: FakeConnection, queue: WebhookQueue, spool: Spool, error: Exception
) -> None:
    bus.published.fail = failing(UNAVAILABLE)
    await accept(queue, "1", "poison", "2")
    bus.published.fail = failing(error, "poison")
    assert await queue._drain(spool)
    assert bus.published.ids == ["1", "2"]
    assert await spooled(spool) == []


async def test_a_bug_while_draining_is_not_hidden(
    bus: FakeConnection, queue: WebhookQueue, spool: Spool
) -> None:
    bus.published.fail = failing(UNAVAILABLE)
    await accept(queue, "1")
    bus.published.fail = failing(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await queue._drain(spool)
    assert await spooled(spool) == ["1"]


@pytest.mark.parametrize("limit", [None, 0, 500])
async def test_a_full_or_missing_spool_refuses_webhooks_and_loses_none(
    bus: FakeConnection, tmp_path: Path, limit: int | None
) -> None:
    spool = Spool(tmp_path, limit) if limit is not None else None
    queue = WebhookQueue(bus, spool, ack_timeout=1.0)
    bus.published.fail = failing(UNAVAILABLE)
    accepted = []
    for number in range(8):
        try:
            await accept(queue, str(number))
        except SpoolFull:
            continue
        accepted.append(str(number))
    assert len(accepted) < 8
    assert bool(accepted) == bool(limit)
    if spool is not None:
        bus.published.fail = accepting
        assert await queue._drain(spool)
        assert bus.published.ids == accepted
        await spool.close()


async def test_a_webhook_can_be_accepted_with_a_connection_or_a_spool(
    bus: FakeConnection, queue: WebhookQueue
) -> None:
    without_spool = WebhookQueue(bus, None, ack_timeout=1.0)
    assert (queue.can_accept, without_spool.can_accept) == (True, True)
    bus.is_up = False
    assert (queue.can_accept, without_spool.can_accept) == (True, False)
    assert without_spool.waiting == 0


async def test_the_queue_is_full_while_the_last_refused_webhook_does_not_fit(
    bus: FakeConnection, tmp_path: Path
) -> None:
    size = record_size(msgspec.msgpack.encode(webhook("1")))
    spool = Spool(tmp_path, 2 * size)
    queue = WebhookQueue(bus, spool, ack_timeout=1.0)
    bus.published.fail = failing(UNAVAILABLE)
    await accept(queue, "1", "2")
    assert not queue.is_full
    with pytest.raises(SpoolFull):
        await accept(queue, "3")
    assert queue.is_full
    bus.published.fail = failing(UNAVAILABLE, "2")
    assert not await queue._drain(spool)
    assert not queue.is_full
    await accept(queue, "4")
    assert queue.is_full
    await spool.close()


async def test_the_queue_is_full_while_the_spools_disk_fails(
    bus: FakeConnection, spool: Spool, queue: WebhookQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus.published.fail = failing(UNAVAILABLE)
    with monkeypatch.context() as broken:
        broken.setattr(SpoolDirectory, "append", Mock(side_effect=OSError("disk full")))
        with pytest.raises(SpoolFull):
            await accept(queue, "1")
    assert queue.is_full
    # The spool is empty, but JetStream is not connected.
    bus.is_up = False
    assert not await queue._drain(spool)
    bus.is_up = True
    await accept(queue, "2")
    assert not queue.is_full
    # JetStream accepts webhooks again: the state of the disk no longer matters.
    spool._writes_fail = True
    bus.published.fail = accepting
    draining = asyncio.create_task(queue.drain_forever())
    await eventually(lambda: not queue.spooling)
    assert not queue.is_full
    draining.cancel()

"""When a replica starts its partitions, and how many it requests and releases."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from hogsend.contract.partitions import partition_consumer
from hogsend.contract.streams import Limits, StreamName
from hogsend.transport.pinned_consumer import PinnedGroup, PinnedState
from services.ingest.partitions import sharing
from services.ingest.partitions.sharing import IDLE_CHECKS, ORPHAN_ROUNDS, Pace, Partitions


async def test_partitions_wait_for_an_older_webhook_that_the_consumer_does_not_count_yet() -> None:
    link: Any = Mock()
    webhook = "hogsend.webhooks.posthog"
    link.js.stream_info = AsyncMock(
        side_effect=[
            Mock(state=Mock(last_seq=7, subjects={webhook: 1})),
            Mock(state=Mock(last_seq=9, subjects={webhook: 3})),
            Mock(state=Mock(last_seq=9, subjects=None)),
        ]
    )
    # A consumer counts a message some milliseconds after its stream has acknowledged it.
    behind = Mock(num_pending=0, num_ack_pending=0, ack_floor=Mock(stream_seq=6))
    link.js.consumer_info = AsyncMock(return_value=behind)
    broker: Any = Mock(link=link)
    subscriber: Any = Mock(batch=500)
    partitions = Partitions(broker, subscriber, 2, pace=Pace(round=0), limits=Limits())
    async with asyncio.timeout(60):
        await partitions._wait_for_older_webhooks()
    assert link.js.stream_info.await_count == 3


class Share:
    """The partitions of one replica, of which it owns the first `owned`, and the other replicas."""

    def __init__(
        self, count: int, *, owned: int, replicas: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.link: Any = Mock()
        broker: Any = Mock(link=self.link)
        subscriber: Any = Mock(batch=500)
        self._partitions = Partitions(broker, subscriber, count, pace=Pace(), limits=Limits())
        self._partitions._restore_slots = AsyncMock()  # type: ignore[method-assign]
        self.mocks: list[Any] = [
            Mock(is_owned=number < owned, overlaps=False) for number in range(count)
        ]
        for mock in self.mocks:
            mock.source.info = AsyncMock(return_value=PinnedState())
        self._partitions._partitions = self.mocks
        monkeypatch.setattr(sharing, "count_replicas", AsyncMock(return_value=replicas))

    def set_states(self, **state: Any) -> None:
        for mock in self.mocks:
            mock.source.info.return_value = PinnedState(**state)

    async def share(self, rounds: int = 1) -> None:
        for _ in range(rounds):
            await self._partitions._share()

    @property
    def requested(self) -> list[bool | None]:
        """The last request for each partition; None without one."""
        return [
            mock.request.call_args.args[0] if mock.request.called else None for mock in self.mocks
        ]

    @property
    def released(self) -> int:
        return sum(mock.release.called for mock in self.mocks)


@pytest.mark.parametrize(("owned", "is_short"), [(0, True), (1, True), (2, False), (3, False)])
async def test_a_replica_requests_partitions_while_it_owns_less_than_its_share(
    owned: int, is_short: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Half of three, rounded up. A replica that gets no reply, not even its own, has all of them.
    share = Share(3, owned=owned, replicas=2, monkeypatch=monkeypatch)
    await share.share()
    assert share.requested == [None] * owned + [is_short] * (3 - owned)
    alone = Share(3, owned=owned, replicas=0, monkeypatch=monkeypatch)
    await alone.share()
    assert set(alone.requested) <= {None, True}


async def test_a_replica_releases_what_it_owns_beyond_its_share_if_others_wait_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    share = Share(4, owned=4, replicas=2, monkeypatch=monkeypatch)
    # One open request is this replica's own.
    share.set_states(num_waiting=1)
    await share.share()
    assert share.released == 0
    share.set_states(num_waiting=2)
    await share.share()
    assert share.released == 2


async def test_a_replica_sometimes_requests_partitions_that_no_replica_consumes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    share = Share(4, owned=2, replicas=2, monkeypatch=monkeypatch)
    share.set_states(num_pending=1)
    await share.share(ORPHAN_ROUNDS - 1)
    assert share.requested == [None, None, False, False]
    await share.share()
    assert share.requested == [None, None, True, True]
    for state in (
        {"num_pending": 1, "priority_groups": [PinnedGroup("another replica")]},
        {"num_pending": 0},
    ):
        share.set_states(**state)
        await share.share(ORPHAN_ROUNDS)
        assert share.requested == [None, None, False, False]


async def test_consumers_of_another_number_of_partitions_are_deleted_once_no_replica_reads_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    share = Share(4, owned=0, replicas=1, monkeypatch=monkeypatch)
    share.mocks[0].overlaps = True
    names = [str(partition_consumer(0, count).durable_name) for count in (4, 2)]
    consumers = [Mock(), Mock()]
    for consumer, name in zip(consumers, [*names], strict=True):
        consumer.name = name
    monkeypatch.setattr(sharing, "list_consumers", AsyncMock(return_value=consumers))
    js = share.link.js
    js.delete_consumer = AsyncMock()
    js.consumer_info = AsyncMock(return_value=Mock(num_waiting=0))
    await share.share(IDLE_CHECKS - 1)
    # A replica that reads them starts again meanwhile.
    js.consumer_info.return_value = Mock(num_waiting=1)
    await share.share()
    js.consumer_info.return_value = Mock(num_waiting=None)
    await share.share(IDLE_CHECKS - 1)
    js.delete_consumer.assert_not_awaited()
    await share.share()
    js.delete_consumer.assert_awaited_once_with(StreamName.WEBHOOKS, names[1])

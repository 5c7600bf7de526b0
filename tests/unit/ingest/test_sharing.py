"""A replica starts its partitions after the webhooks that were queued without a slot."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import AsyncMock, Mock

from hogsend.contract.streams import Limits
from services.ingest.partitions.sharing import Pace, Partitions


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

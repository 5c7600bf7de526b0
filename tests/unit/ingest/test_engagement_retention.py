"""How much of ENGAGEMENT every consumer is sure to know of."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from services.ingest.engagement_retention import LAG_SECONDS, EngagementRetention
from tests.virtual_time import on_virtual_time


@on_virtual_time
async def test_in_a_cluster_only_what_is_older_than_a_leaders_lag() -> None:
    retention = EngagementRetention(cast("Any", None))
    known = []
    for last in (5, 9, 12):
        known.append(retention._known_to_all(last, is_cluster=True))
        await asyncio.sleep(LAG_SECONDS / 2)
    known += [retention._known_to_all(20, is_cluster=True) for _ in range(2)]
    await asyncio.sleep(LAG_SECONDS)
    known.append(retention._known_to_all(30, is_cluster=True))
    assert known == [0, 0, 5, 9, 9, 20]


@on_virtual_time
async def test_one_server_knows_all_at_once() -> None:
    assert EngagementRetention(cast("Any", None))._known_to_all(7, is_cluster=False) == 7

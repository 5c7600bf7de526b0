"""How much of ENGAGEMENT may be deleted by its age."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from services.ingest.engagement_retention import KEPT_SECONDS, EngagementRetention
from tests.virtual_time import on_virtual_time


@on_virtual_time
async def test_every_report_stays_for_a_while() -> None:
    retention = EngagementRetention(cast("Any", None), cast("Any", None))
    known = []
    for last in (5, 9, 12):
        known.append(retention._known_to_all(last))
        await asyncio.sleep(KEPT_SECONDS / 2)
    known += [retention._known_to_all(20) for _ in range(2)]
    await asyncio.sleep(KEPT_SECONDS)
    known.append(retention._known_to_all(30))
    assert known == [0, 0, 5, 9, 9, 20]

"""Reports stay in ENGAGEMENT for a minimum age, whatever its consumers have handled."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from hogsend.contract.errors import Unavailable
from hogsend.service.tasks import cancel_all
from services.ingest.engagement_retention import (
    MIN_AGE_SECONDS,
    TRIM_PAUSE_SECONDS,
    EngagementRetention,
)
from tests.virtual_time import on_virtual_time


@on_virtual_time
async def test_every_report_stays_in_its_stream_for_the_minimum_age() -> None:
    retention = EngagementRetention(cast("Any", None), cast("Any", None))
    ends = []
    for last in (5, 9, 12):
        ends.append(retention._stable_end(last))
        await asyncio.sleep(MIN_AGE_SECONDS / 2)
    ends += [retention._stable_end(20) for _ in range(2)]
    await asyncio.sleep(MIN_AGE_SECONDS)
    ends.append(retention._stable_end(30))
    assert ends == [0, 0, 5, 9, 9, 20]


@on_virtual_time
async def test_every_report_of_a_recreated_stream_stays_for_the_minimum_age() -> None:
    retention = EngagementRetention(cast("Any", None), cast("Any", None))
    ends = []
    for last in (500, 500, 500, 1, 2, 3):
        ends.append(retention._stable_end(last))
        await asyncio.sleep(MIN_AGE_SECONDS / 2)
    assert ends == [0, 0, 500, 0, 0, 1]


@on_virtual_time
async def test_each_reason_why_the_stream_is_not_trimmed_is_logged_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    retention = EngagementRetention(cast("Any", SimpleNamespace(connected=True)), cast("Any", None))
    reasons = iter(["PostgreSQL is unavailable"] * 20 + ["analytics is unavailable"] * 20)

    async def trim() -> None:
        raise Unavailable(next(reasons))

    monkeypatch.setattr(retention, "trim", trim)
    with capture_logs() as lines:
        trimming = asyncio.create_task(retention.keep_trimmed())
        await asyncio.sleep(40.5 * TRIM_PAUSE_SECONDS)
        await cancel_all(trimming)
    assert [line["reason"] for line in lines] == [
        "PostgreSQL is unavailable",
        "analytics is unavailable",
    ]

"""Refreshes of a grant, as tests start, interrupt and repeat them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from services.credentials.refresh import CHECK_SECONDS
from tests.unit.credentials.conftest import Driver, Replica


def warnings(logs: list[Any]) -> list[Any]:
    return [entry for entry in logs if entry["log_level"] == "warning"]


async def start_refresh(driver: Driver, replica: Replica, rejected: str | None = None) -> Any:
    """Start a refresh whose response does not arrive yet."""
    driver.endpoint.responding.clear()
    pending = asyncio.create_task(replica.token(rejected))
    await driver.endpoint.arrived.wait()
    return pending


async def crash(replica: Replica, pending: asyncio.Task[Any]) -> None:
    """End a replica during a refresh; only the database has a record of it."""
    replica.refresher._running["posthog"].cancel()
    with suppress(asyncio.CancelledError):
        await pending


async def check_until(
    driver: Driver, replicas: Sequence[Replica], requests: Sequence[str], times: int
) -> None:
    """Run the replicas' periodic checks in turn, until the endpoint got `times` requests."""
    for number in range(10_000):
        await replicas[number % len(replicas)].refresher.refresh_due()
        if len(requests) >= times:
            return
        driver.clock.advance(CHECK_SECONDS / len(replicas))
    raise AssertionError("the replicas sent too few requests")

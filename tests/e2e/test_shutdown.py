"""SIGTERM: what is under way is finished, within ten seconds, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import httpx
import psutil
import pytest

from cli.stack.environment import SERVICE_SETTINGS
from tests.chaos.faults import runs, stored_ids
from tests.running_stack import Up, up
from tests.waiting import eventually, more_than

DRAIN_SECONDS = 10.0
PAUSE_SECONDS = 0.01
"""Between two events of the load."""


async def report(stack: Up, key: str) -> httpx.Response:
    body = {"event": "feature.used", "userId": "u_1", "idempotencyKey": key}
    return await stack.http.post("/v1/events", json=body, headers=stack.admin, timeout=20)


async def ended(process: psutil.Process) -> None:
    await eventually(lambda: not runs(process), DRAIN_SECONDS)


async def waits_for_the_lock(connection: asyncpg.Connection[asyncpg.Record]) -> bool:
    return bool(
        await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        )
    )


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Up]:
    """One for all: every test leaves it healthy."""
    directory = tmp_path_factory.mktemp("shutdown")
    async with up(directory / "home", directory) as running:
        yield running


@pytest.mark.parametrize("stopped", ["gateway", "ingest"])
async def test_a_request_under_way_is_answered(stopped: str, stack: Up) -> None:
    connection = await asyncpg.connect(stack.postgres_url)
    try:
        lock = connection.transaction()
        await lock.start()
        await connection.execute("LOCK TABLE ingest.events IN ACCESS EXCLUSIVE MODE")
        asking = asyncio.create_task(report(stack, f"under-way-{stopped}"))
        await eventually(lambda: waits_for_the_lock(connection))
        process = stack.child(stopped)
        process.terminate()
        await eventually(lambda: says_stopping(stack, stopped))
        await lock.rollback()
        answer = await asking
        assert answer.status_code == 202, answer.text
        await ended(process)
        await eventually(stack.is_healthy, 60)
        assert (await stored_ids(stack)).count(f"under-way-{stopped}") == 1
    finally:
        await connection.close()


def says_stopping(stack: Up, name: str) -> bool:
    return '"stopping"' in (stack.home / "logs" / f"{name}.log").read_text()


async def test_every_service_stops_in_time_under_load_and_nothing_is_lost(stack: Up) -> None:
    accepted: list[str] = []
    go_on = True

    async def post() -> None:
        number = 0
        while go_on:
            number += 1
            if await stack.post(f"e-{number:05}") == 200:
                accepted.append(f"e-{number:05}")
            await asyncio.sleep(PAUSE_SECONDS)

    posting = asyncio.create_task(post())
    for name in SERVICE_SETTINGS:
        process, before = stack.child(name), len(accepted)
        process.terminate()
        await ended(process)
        await eventually(stack.is_healthy, 60)
        await eventually(more_than(before + 20, accepted))
    go_on = False
    await posting

    async def all_there() -> bool:
        return set(await stored_ids(stack)) >= set(accepted)

    await eventually(all_there, 60)
    stored = await stored_ids(stack)
    assert len(stored) == len(set(stored))
    said = "".join(log.read_text() for log in (stack.home / "logs").glob("*.log"))
    assert "stopped before every request was answered" not in said

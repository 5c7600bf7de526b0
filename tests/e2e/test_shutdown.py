"""SIGTERM: what is under way is finished, within ten seconds, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime

import asyncpg
import httpx
import psutil
import pytest

from cli.stack import nats
from cli.stack.environment import SERVICE_SETTINGS
from hogsend.contract.events import INGEST_RECORD, RecordEvent
from hogsend.contract.users import User
from hogsend.transport.connection import Connection
from tests.chaos.faults import runs, stored_ids
from tests.running_stack import Up, up
from tests.waiting import eventually, more_than

DRAIN_SECONDS = 10.0
PAUSE_SECONDS = 0.01
"""Between two events of the load."""


async def report(stack: Up, key: str) -> bool:
    """Report an event over HTTP; whether it is stored when that is answered."""
    body = {"event": "feature.used", "userId": "u_1", "idempotencyKey": key}
    answer = await stack.http.post("/v1/events", json=body, headers=stack.admin, timeout=60)
    return answer.status_code == 202


async def record(stack: Up, key: str) -> bool:
    """The same as the gateway does it, but for its deadline: a slow machine may miss that."""
    password = (stack.home / "secrets" / f"nats-{User.GATEWAY}").read_text().strip()
    port = httpx.URL(stack.nats_url).port or 0
    bus = Connection(User.GATEWAY, nats.url(User.GATEWAY, password, port))
    await bus.open()
    try:
        event = RecordEvent(
            event="feature.used", user_id="u_1", idempotency_key=key, received_at=datetime.now(UTC)
        )
        return (await bus.request(INGEST_RECORD, event, deadline=60)).stored
    finally:
        await bus.close()


async def ended(process: psutil.Process) -> None:
    async with asyncio.timeout(DRAIN_SECONDS):
        await eventually(lambda: not runs(process))


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


@pytest.mark.parametrize(("stopped", "ask"), [("gateway", report), ("ingest", record)])
async def test_a_request_under_way_is_answered(
    stopped: str, ask: Callable[[Up, str], Awaitable[bool]], stack: Up
) -> None:
    process = stack.child(stopped)
    connection = await asyncpg.connect(stack.postgres_url)
    try:
        lock = connection.transaction()
        await lock.start()
        await connection.execute("LOCK TABLE ingest.events IN ACCESS EXCLUSIVE MODE")
        asking = asyncio.ensure_future(ask(stack, f"under-way-{stopped}"))

        async def is_under_way() -> bool:
            assert not asking.done(), asking
            return await waits_for_the_lock(connection)

        await eventually(is_under_way)
        process.terminate()
        await eventually(lambda: says_stopping(stack, stopped))
        await lock.rollback()
        assert await asking
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

"""On SIGTERM a service finishes its requests within ten seconds, and no accepted event is lost."""

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
"""Pause between two events of the load."""


async def report(stack: Up, key: str) -> bool:
    """Report an event over HTTP; return whether the response states that it is stored."""
    body = {"event": "feature.used", "userId": "u_1", "idempotencyKey": key}
    response = await stack.http.post("/v1/events", json=body, headers=stack.admin, timeout=60)
    return response.status_code == 202


async def record(stack: Up, key: str) -> bool:
    """Send the gateway's request to ingest; return whether the event is stored.

    Its deadline is longer than the gateway's, which a slow machine could miss.
    """
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


async def wait_for_exit(process: psutil.Process) -> None:
    """Wait until a process has exited; it has `DRAIN_SECONDS` for that."""
    async with asyncio.timeout(DRAIN_SECONDS):
        await eventually(lambda: not runs(process))


async def has_a_waiting_query(connection: asyncpg.Connection[asyncpg.Record]) -> bool:
    """Whether a query waits for a lock in PostgreSQL."""
    return bool(
        await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        )
    )


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Up]:
    """A stack that the tests share; each leaves it healthy."""
    directory = tmp_path_factory.mktemp("shutdown")
    async with up(directory / "home", directory) as running:
        yield running


@pytest.mark.parametrize(("stopped", "send"), [("gateway", report), ("ingest", record)])
async def test_a_service_replies_to_a_request_in_progress_before_it_stops(
    stopped: str, send: Callable[[Up, str], Awaitable[bool]], stack: Up
) -> None:
    process = stack.child(stopped)
    connection = await asyncpg.connect(stack.postgres_url)
    try:
        lock = connection.transaction()
        await lock.start()
        await connection.execute("LOCK TABLE ingest.events IN ACCESS EXCLUSIVE MODE")
        request = asyncio.ensure_future(send(stack, f"in-progress-{stopped}"))

        async def is_in_progress() -> bool:
            assert not request.done(), request
            return await has_a_waiting_query(connection)

        await eventually(is_in_progress)
        process.terminate()
        await eventually(lambda: has_logged_stopping(stack, stopped))
        await lock.rollback()
        assert await request
        await wait_for_exit(process)
        await eventually(stack.is_healthy, 60)
        assert (await stored_ids(stack)).count(f"in-progress-{stopped}") == 1
    finally:
        await connection.close()


def has_logged_stopping(stack: Up, name: str) -> bool:
    return '"stopping"' in (stack.home / "logs" / f"{name}.log").read_text()


async def test_every_service_stops_in_time_under_load_and_no_event_is_lost(stack: Up) -> None:
    accepted: list[str] = []
    is_posting = True

    async def post() -> None:
        number = 0
        while is_posting:
            number += 1
            if await stack.post(f"e-{number:05}") == 200:
                accepted.append(f"e-{number:05}")
            await asyncio.sleep(PAUSE_SECONDS)

    posting = asyncio.create_task(post())
    for name in SERVICE_SETTINGS:
        process, before = stack.child(name), len(accepted)
        process.terminate()
        await wait_for_exit(process)
        await eventually(stack.is_healthy, 60)
        await eventually(more_than(before + 20, accepted))
    is_posting = False
    await posting

    async def are_all_stored() -> bool:
        return set(await stored_ids(stack)) >= set(accepted)

    await eventually(are_all_stored, 60)
    stored = await stored_ids(stack)
    assert len(stored) == len(set(stored))
    logs = "".join(log.read_text() for log in (stack.home / "logs").glob("*.log"))
    assert "stopped before every request was answered" not in logs

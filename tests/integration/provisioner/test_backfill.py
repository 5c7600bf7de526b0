"""Backfills on real servers: the sandbox's query API, provisioner, ingest, gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, Never

import asyncpg
import httpx
import msgspec
import pytest

from hogsend.contract.streams import StreamName
from hogsend.contract.users import User
from hogsend.posthog.api import queries
from hogsend.posthog.client_document import CLIENT_ID
from hogsend.posthog.errors import PostHogError
from hogsend.transport.connection import Connection
from sandbox.faults import Fault
from services.provisioner.backfill import backfills, runner
from tests.integration.gateway.test_credentials import PAYLOAD
from tests.integration.gateway.test_credentials import URL as CREDENTIAL
from tests.integration.harness import (
    Gateway,
    admin,
    credentials_service,
    gateway_service,
    provisioner_service,
)
from tests.integration.ingest.driver import ingest_service
from tests.integration.sandbox.driver import Driver as PostHog
from tests.integration.sandbox.driver import sandbox
from tests.servers import Servers
from tests.waiting import eventually

URL = "/v1/admin/backfills"
SINCE = "2026-01-01T00:00:00Z"
EVENTS = 1_000


@dataclass
class Stack:
    """The running services and their PostHog."""

    servers: Servers
    database_url: str
    posthog: PostHog
    gateway: Gateway
    configured: dict[str, Any]

    @asynccontextmanager
    async def provisioner(self) -> AsyncIterator[None]:
        """Run the provisioner until the end of the block, as between two restarts."""
        async with provisioner_service(self.servers, self.database_url, posthog=self.configured):
            yield

    async def connect(self) -> None:
        """Store an OAuth grant of this PostHog."""
        tokens = await self.posthog.tokens()
        payload = {
            **PAYLOAD,
            "accessToken": tokens["access_token"],
            "refreshToken": tokens["refresh_token"],
            "expiresAt": (datetime.now(UTC) + timedelta(hours=1)).isoformat(),
            "tokenEndpoint": f"{self.posthog.url}/oauth/token/",
            "clientId": CLIENT_ID,
            "scopedTeams": [],
        }
        response = await self.gateway.http.put(
            CREDENTIAL, json={"payload": payload}, headers=admin()
        )
        assert response.is_success, response.text

    async def start(self, **options: Any) -> httpx.Response:
        body = {"since": SINCE, **options}
        return await self.gateway.http.post(URL, json=body, headers=admin())

    async def latest(self) -> Any:
        response = await self.gateway.http.get(URL, headers=admin())
        assert response.is_success, response.text
        return response.json()["backfills"][0]

    async def until(self, state: str) -> Any:
        backfill: dict[str, Any] = {}

        async def has_state() -> bool:
            backfill.update(await self.latest())
            return backfill["state"] == state

        await eventually(has_state, timeout=60)
        return backfill

    async def events(self, **query: Any) -> Any:
        response = await self.gateway.http.get("/v1/admin/events", params=query, headers=admin())
        return response.json()


@pytest.fixture
async def stack(
    servers: Servers, database_url: str, fresh_bus: None, tmp_path: Path
) -> AsyncIterator[Stack]:
    """Run all services except the provisioner, with a personal key."""
    async with running_stack(servers, database_url, tmp_path) as stack:
        yield stack


@asynccontextmanager
async def running_stack(
    servers: Servers,
    database_url: str,
    tmp_path: Path,
    *,
    personal: bool = True,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> AsyncIterator[Stack]:
    """Run all services except the provisioner. `now` is the clock of the credentials service."""
    async with AsyncExitStack() as running:
        posthog = await running.enter_async_context(sandbox())
        key = posthog.instance.options.personal_key if personal else None
        configured = {
            "posthog_api_key": "phc_test",
            "posthog_host": posthog.url,
            "posthog_private_host": posthog.url,
        }
        await running.enter_async_context(
            credentials_service(servers, database_url, personal_key=key, now=now)
        )
        await running.enter_async_context(ingest_service(servers, database_url))
        gateway = await running.enter_async_context(
            gateway_service(servers, tmp_path, posthog=configured)
        )
        yield Stack(servers, database_url, posthog, gateway, configured)


async def capture(posthog: PostHog, count: int, *, event: str = "signed_up") -> None:
    """Capture events of January, many of them within the same millisecond."""
    batch = [
        {
            "event": event,
            "distinct_id": f"u_{number % 50}",
            "timestamp": f"2026-01-0{1 + number % 9}T00:00:{number % 60:02}Z",
            "properties": {"number": number, "$set": {"plan": "old"}},
        }
        for number in range(count)
    ]
    body = {"api_key": posthog.instance.options.project_key, "batch": batch}
    assert (await posthog.http.post("/batch/", json=body)).is_success


async def test_a_backfill_skips_hogsends_own_captures_and_anonymous_visitors(stack: Stack) -> None:
    properties_of_events: list[dict[str, Any]] = [
        {"$is_identified": True},
        {"$lib": "posthog-python"},
        {"$lib": "hogsend"},
        {"$is_identified": False},
        {"$process_person_profile": False},
    ]
    batch = [
        {"event": "e", "distinct_id": f"u_{number}", "timestamp": SINCE, "properties": properties}
        for number, properties in enumerate(properties_of_events)
    ]
    body = {"api_key": stack.posthog.instance.options.project_key, "batch": batch}
    (await stack.posthog.http.post("/batch/", json=body)).raise_for_status()
    async with stack.provisioner():
        await stack.start()
        done = await stack.until("finished")
    assert (done["total"], done["read"], done["stored"]) == (2, 2, 2)
    assert {event["userId"] for event in (await stack.events())["events"]} == {"u_0", "u_1"}


async def test_a_backfill_interrupted_twice_stores_every_event_once(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "PAGE_EVENTS", 400)
    monkeypatch.setattr(runner, "CHUNK_EVENTS", 50)
    await capture(stack.posthog, EVENTS)
    async with stack.provisioner():
        count = await stack.gateway.http.post(
            f"{URL}/count", json={"since": SINCE}, headers=admin()
        )
        assert count.json() == {"count": EVENTS}
        started = (await stack.start()).json()
        assert (started["state"], started["total"]) == ("running", EVENTS)

        async def has_started_reading() -> bool:
            return bool((await stack.latest())["read"])

        await eventually(has_started_reading)
    async with stack.provisioner():
        before = (await stack.latest())["read"]
        assert 0 < before < EVENTS

        async def has_read_more() -> bool:
            return bool((await stack.latest())["read"] > before)

        await eventually(has_read_more)
    async with stack.provisioner():
        assert before < (await stack.latest())["read"] < EVENTS
        done = await stack.until("finished")
        assert (done["read"], done["stored"], done["known"]) == (EVENTS, EVENTS, 0)
        assert done["id"] == started["id"]
        page = await stack.events(limit=1)
        assert page["total"] == EVENTS
        assert page["events"][0]["backfilled"] is True
        # A second backfill stores nothing: all events exist already.
        assert (await stack.start()).json()["id"] != started["id"]
        again = await stack.until("finished")
        assert (again["read"], again["stored"], again["known"]) == (EVENTS, 0, EVENTS)
        assert (await stack.events())["total"] == EVENTS


async def announced_events(stack: Stack) -> int:
    link = Connection(User.OPERATOR, stack.servers.nats_url(User.OPERATOR))
    await link.open()
    try:
        info = await (await link.js_for(StreamName.EVENTS)).stream_info(StreamName.EVENTS)
        return int(info.state.messages)
    finally:
        await link.close()


async def test_a_backfill_announces_only_new_events_and_only_with_announce(stack: Stack) -> None:
    await capture(stack.posthog, 20)
    await capture(stack.posthog, 5, event="paid")
    async with stack.provisioner():
        await stack.start(events=["signed_up"])
        assert (await stack.until("finished"))["stored"] == 20
        assert await announced_events(stack) == 0
        await stack.start(announce=True)
        done = await stack.until("finished")
        assert (done["stored"], done["known"]) == (5, 20)
        assert await announced_events(stack) == 5


async def test_a_webhook_of_a_backfilled_event_is_announced_once(stack: Stack) -> None:
    await capture(stack.posthog, 1)
    async with stack.provisioner():
        await stack.start()
        await stack.until("finished")
    (event,) = stack.posthog.instance.pipeline.events.values()
    body = msgspec.json.encode({"event": event, "person": {"properties": {"plan": "new"}}})

    async def is_announced() -> bool:
        return await announced_events(stack) == 1

    for _ in range(2):
        response = await stack.gateway.http.post("/v1/webhooks/posthog", content=body)
        assert response.is_success, response.text
        await eventually(is_announced)
    (stored,) = (await stack.events())["events"]
    assert stored["backfilled"] is False
    identity = {name: stored[name] for name in ("source", "id", "event", "userId")}
    trace = await stack.gateway.http.get("/v1/admin/events/trace", params=identity, headers=admin())
    # These are the times of the webhook: a backfilled event is not queued.
    times = (stored["receivedAt"], trace.json()["queuedAt"], trace.json()["storedAt"])
    assert list(times) == sorted(times)


async def test_older_properties_of_a_backfill_do_not_replace_newer_ones(stack: Stack) -> None:
    newer = {
        "event": {
            "event": "upgraded",
            "distinct_id": "u_0",
            "uuid": "0197a1b2-7f3c-7000-8000-0123456789ab",
            "timestamp": "2026-06-01T00:00:00Z",
        },
        "person": {"properties": {"plan": "new"}},
    }
    assert (await stack.gateway.http.post("/v1/webhooks/posthog", json=newer)).is_success

    async def stored() -> bool:
        return bool((await stack.events())["total"] == 1)

    await eventually(stored)
    await capture(stack.posthog, 1)
    async with stack.provisioner():
        await stack.start()
        await stack.until("finished")
    response = await stack.gateway.http.get(
        "/v1/admin/contacts", params={"key": "u_0"}, headers=admin()
    )
    (contact,) = response.json()["contacts"]
    assert contact["properties"]["plan"] == "new"


async def test_a_backfill_waits_while_posthog_cannot_refresh_the_expired_token(
    servers: Servers,
    database_url: str,
    fresh_bus: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runner, "FAILURE_SECONDS", 0.1)
    may_run, run = asyncio.Event(), runner.BackfillRunner.run

    async def run_when_allowed(self: runner.BackfillRunner) -> Never:
        await may_run.wait()
        await run(self)

    monkeypatch.setattr(runner.BackfillRunner, "run", run_when_allowed)
    ahead = timedelta(0)
    async with running_stack(
        servers, database_url, tmp_path, personal=False, now=lambda: datetime.now(UTC) + ahead
    ) as stack:
        await capture(stack.posthog, 10)
        await stack.connect()
        async with stack.provisioner():
            assert (await stack.start()).is_success
            ahead = timedelta(days=30)
            stack.posthog.instance.faults.replace({"oauth": Fault(status=503)})
            may_run.set()

            async def waits() -> bool:
                backfill = await stack.latest()
                assert backfill["state"] == "running"
                return "not refreshed yet" in (backfill["detail"] or "")

            await eventually(waits, timeout=60)
            stack.posthog.instance.faults.replace({})
            # After the pause that follows a failed refresh.
            ahead += timedelta(minutes=2)
            ended = await stack.until("finished")
    assert (ended["read"], ended["stored"]) == (10, 10)


async def test_a_nul_in_an_event_name_is_replaced(stack: Stack) -> None:
    async with stack.provisioner():
        started = await stack.start(events=["a\0b"])
        assert started.json()["events"] == ["a\ufffdb"]


@pytest.mark.parametrize("status", [503, 400])
async def test_an_error_message_with_nul_is_stored_as_the_detail(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """PostgreSQL accepts no NUL. A proxy's error page in UTF-16 has one after every letter."""
    page = queries.Queries.page

    async def fail(self: Any, *args: Any) -> Any:
        raise PostHogError("B\0a\0d", status)

    monkeypatch.setattr(runner, "FAILURE_SECONDS", 0.05)
    monkeypatch.setattr(queries.Queries, "page", fail)
    async with stack.provisioner():
        assert (await stack.start()).is_success

        async def has_reason() -> bool:
            return "B\ufffda\ufffdd" in ((await stack.latest()).get("detail") or "")

        await eventually(has_reason)
        monkeypatch.setattr(queries.Queries, "page", page)
        if status == 503:
            await stack.until("finished")


async def test_an_event_over_the_response_limit_is_skipped_and_reported(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "MAX_RESPONSE_BYTES", 10_000)
    monkeypatch.setattr(runner, "PAGE_EVENTS", 4)
    monkeypatch.setattr(runner, "FAILURE_SECONDS", 0.0)
    huge = "0199b000-0000-7000-8000-000000000001"
    event = {"event": "signed_up", "distinct_id": "u_1", "properties": {}}
    batch = [
        {**event, "timestamp": "2026-01-01T00:00:00Z"},
        {
            **event,
            "uuid": huge,
            "timestamp": "2026-01-02T00:00:00Z",
            "properties": {"text": "x" * 20_000},
        },
        {**event, "timestamp": "2026-01-03T00:00:00Z"},
    ]
    body = {"api_key": stack.posthog.instance.options.project_key, "batch": batch}
    assert (await stack.posthog.http.post("/batch/", json=body)).is_success
    async with stack.provisioner():
        assert (await stack.start()).is_success
        ended = await stack.until("finished")
    counts = [ended[name] for name in ("total", "read", "stored", "rejected")]
    assert counts == [3, 3, 2, 1]
    assert huge in ended["leftOut"]
    assert ended.get("detail") is None


async def test_a_backfill_with_a_key_without_the_scope_is_refused_with_the_remedy(
    stack: Stack,
) -> None:
    stack.posthog.instance.options = msgspec.structs.replace(
        stack.posthog.instance.options, personal_key_scopes=("project:read",)
    )
    async with stack.provisioner():
        response = await stack.start()
    assert (response.status_code, response.json()["error"]) == (502, "missing-scope")
    assert "query:read" in response.json()["remediation"]


async def test_a_count_that_is_too_large_for_posthog_is_refused_with_advice_to_split_it(
    stack: Stack,
) -> None:
    async with stack.provisioner():
        for status, in_parts in ((512, True), (503, False)):
            stack.posthog.instance.faults.replace({"api": Fault(status=status)})
            response = await stack.start()
            assert (response.status_code, response.json()["error"]) == (502, "api-error")
            assert ("in parts" in response.json()["remediation"]) is in_parts


async def test_a_cancelled_backfill_stays_cancelled_until_it_is_started_again(
    stack: Stack,
) -> None:
    await capture(stack.posthog, 10)
    instance = stack.posthog.instance
    async with stack.provisioner():
        started = (await stack.start()).json()
        instance.faults.replace({"api": Fault(status=503)})
        cancel = f"{URL}/{started['id']}/cancel"
        cancelled = await stack.gateway.http.post(cancel, headers=admin())
        assert cancelled.json()["state"] in {"cancelled", "finished"}
        instance.faults.replace({})
        unknown = await stack.gateway.http.post(f"{URL}/{'0' * 32}/cancel", headers=admin())
        assert unknown.status_code == 404
        invalid = await stack.gateway.http.post(f"{URL}/x/cancel", headers=admin())
        assert invalid.status_code == 404
        again = (await stack.start()).json()
        assert (again["id"] == started["id"]) is (cancelled.json()["state"] == "cancelled")
        assert (await stack.until("finished"))["read"] == 10


async def test_a_backfill_starts_and_finishes_when_the_clock_is_behind_postgresqls(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    await capture(stack.posthog, 10)

    class ClockBehind(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return datetime(2026, 1, 5, tzinfo=tz)

    for module in (backfills, runner):
        # A module that does not use the clock has nothing to patch.
        monkeypatch.setattr(module, "datetime", ClockBehind, raising=False)
    async with stack.provisioner():
        assert (await stack.start()).json()["state"] == "running"
        assert (await stack.until("finished"))["read"] == 10


async def test_a_backfill_until_a_future_time_is_the_same_backfill_when_started_again(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with `--until` tomorrow, which includes all of today."""
    await capture(stack.posthog, 10)
    page, may_read = queries.Queries.page, asyncio.Event()

    async def wait(self: Any, *args: Any) -> Any:
        await may_read.wait()
        return await page(self, *args)

    monkeypatch.setattr(queries.Queries, "page", wait)
    until = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    async with stack.provisioner():
        started = (await stack.start(until=until)).json()
        assert (await stack.start(until=until)).json()["id"] == started["id"]
        await stack.gateway.http.post(f"{URL}/{started['id']}/cancel", headers=admin())
        assert (await stack.start(until=until)).json()["id"] == started["id"]
        may_read.set()
        assert (await stack.until("finished"))["read"] == 10


async def test_backfilled_events_are_received_at_the_time_of_the_backfills_last_start(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Retention counts from this time, and the backfill may have waited longer than retention."""
    monkeypatch.setattr(runner, "PAGE_EVENTS", 4)
    await capture(stack.posthog, 10)
    async with stack.provisioner():
        started = (await stack.start()).json()
        await stack.until("finished")
    rows = await asyncpg.connect(stack.database_url)
    await rows.execute("DELETE FROM ingest.events; DELETE FROM ingest.event_keys")
    await rows.execute(
        "UPDATE provisioner.backfills SET state = 'cancelled', position_at = NULL,"
        " position_uuid = NULL, started_at = started_at - interval '100 days'"
    )
    async with stack.provisioner():
        assert (await stack.start()).json()["id"] == started["id"]
        await stack.until("finished")
    received = [row["received_at"] for row in await rows.fetch("SELECT * FROM ingest.events")]
    await rows.close()
    assert len(received) == 10
    assert len(set(received)) == 1
    assert datetime.now(UTC) - received[0] < timedelta(hours=1)


async def test_a_backfill_continues_only_while_its_project_is_connected(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "PAGE_EVENTS", 4)
    monkeypatch.setattr(runner, "FAILURE_SECONDS", 0.05)
    await capture(stack.posthog, 10)
    instance, pages = stack.posthog.instance, 0

    def switch_project(id: int) -> None:
        # As when an operator connects another project, or opens it in PostHog.
        instance.project = msgspec.structs.replace(instance.project, id=id)

    page = queries.Queries.page

    async def connect_another_after_the_first_page(self: Any, *args: Any) -> Any:
        nonlocal pages
        result = await page(self, *args)
        pages += 1
        if pages == 1:
            switch_project(5)
        return result

    monkeypatch.setattr(queries.Queries, "page", connect_another_after_the_first_page)
    async with stack.provisioner():
        first = (await stack.start()).json()
        failed = await stack.until("failed")
        assert (failed["id"], failed["read"]) == (first["id"], 4)
        assert "/project/4242" in failed["detail"]
        assert "/project/5" in failed["detail"]
        second = (await stack.start()).json()
        assert second["id"] != first["id"]
        assert (await stack.until("finished"))["read"] == 10
        switch_project(4242)
        assert (await stack.start()).json()["id"] == first["id"]
        assert (await stack.until("finished"))["read"] == 10

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
    """What runs."""

    servers: Servers
    database_url: str
    posthog: PostHog
    gateway: Gateway
    configured: dict[str, Any]

    @asynccontextmanager
    async def provisioner(self) -> AsyncIterator[None]:
        """Run the provisioner for a while, as between two restarts."""
        async with provisioner_service(self.servers, self.database_url, posthog=self.configured):
            yield

    async def connect(self) -> None:
        """Store a grant of PostHog's."""
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
        answer = await self.gateway.http.put(CREDENTIAL, json={"payload": payload}, headers=admin())
        assert answer.is_success, answer.text

    async def start(self, **wanted: Any) -> httpx.Response:
        body = {"since": SINCE, **wanted}
        return await self.gateway.http.post(URL, json=body, headers=admin())

    async def latest(self) -> Any:
        answer = await self.gateway.http.get(URL, headers=admin())
        assert answer.is_success, answer.text
        return answer.json()["backfills"][0]

    async def until(self, state: str) -> Any:
        found: dict[str, Any] = {}

        async def there() -> bool:
            found.update(await self.latest())
            return found["state"] == state

        await eventually(there, timeout=60)
        return found

    async def events(self, **query: Any) -> Any:
        answer = await self.gateway.http.get("/v1/admin/events", params=query, headers=admin())
        return answer.json()


@pytest.fixture
async def stack(
    servers: Servers, database_url: str, fresh_bus: None, tmp_path: Path
) -> AsyncIterator[Stack]:
    """Everything but the provisioner, with a personal key."""
    async with whole(servers, database_url, tmp_path) as found:
        yield found


@asynccontextmanager
async def whole(
    servers: Servers,
    database_url: str,
    tmp_path: Path,
    *,
    personal: bool = True,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> AsyncIterator[Stack]:
    """Everything but the provisioner; `now` is the time of the credentials service."""
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
    """Events of January, many of them within the same millisecond."""
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


async def test_neither_own_captures_nor_anonymous_visitors_are_read(stack: Stack) -> None:
    said: list[dict[str, Any]] = [
        {"$is_identified": True},
        {"$lib": "posthog-python"},
        {"$lib": "hogsend"},
        {"$is_identified": False},
        {"$process_person_profile": False},
    ]
    batch = [
        {"event": "e", "distinct_id": f"u_{number}", "timestamp": SINCE, "properties": properties}
        for number, properties in enumerate(said)
    ]
    body = {"api_key": stack.posthog.instance.options.project_key, "batch": batch}
    (await stack.posthog.http.post("/batch/", json=body)).raise_for_status()
    async with stack.provisioner():
        await stack.start()
        done = await stack.until("finished")
    assert (done["total"], done["read"], done["stored"]) == (2, 2, 2)
    assert {one["userId"] for one in (await stack.events())["events"]} == {"u_0", "u_1"}


async def test_a_backfill_that_is_interrupted_twice_loses_and_doubles_nothing(
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

        async def some() -> bool:
            return bool((await stack.latest())["read"])

        await eventually(some)
    async with stack.provisioner():
        before = (await stack.latest())["read"]
        assert 0 < before < EVENTS

        async def more() -> bool:
            return bool((await stack.latest())["read"] > before)

        await eventually(more)
    async with stack.provisioner():
        assert before < (await stack.latest())["read"] < EVENTS
        done = await stack.until("finished")
        assert (done["read"], done["stored"], done["known"]) == (EVENTS, EVENTS, 0)
        assert done["id"] == started["id"]
        found = await stack.events(limit=1)
        assert found["total"] == EVENTS
        assert found["events"][0]["backfilled"] is True
        # Again: everything is known by now, and nothing is doubled.
        assert (await stack.start()).json()["id"] != started["id"]
        again = await stack.until("finished")
        assert (again["read"], again["stored"], again["known"]) == (EVENTS, 0, EVENTS)
        assert (await stack.events())["total"] == EVENTS


async def _announced(stack: Stack) -> int:
    link = Connection(User.OPERATOR, stack.servers.nats_url(User.OPERATOR))
    await link.open()
    try:
        info = await (await link.js_for(StreamName.EVENTS)).stream_info(StreamName.EVENTS)
        return int(info.state.messages)
    finally:
        await link.close()


async def test_only_new_events_are_announced_and_only_if_asked_for(stack: Stack) -> None:
    await capture(stack.posthog, 20)
    await capture(stack.posthog, 5, event="paid")
    async with stack.provisioner():
        await stack.start(events=["signed_up"])
        assert (await stack.until("finished"))["stored"] == 20
        assert await _announced(stack) == 0
        await stack.start(announce=True)
        done = await stack.until("finished")
        assert (done["stored"], done["known"]) == (5, 20)
        assert await _announced(stack) == 5


async def test_a_webhook_after_the_backfill_is_announced_after_all(stack: Stack) -> None:
    await capture(stack.posthog, 1)
    async with stack.provisioner():
        await stack.start()
        await stack.until("finished")
    (event,) = stack.posthog.instance.pipeline.events.values()
    body = msgspec.json.encode({"event": event, "person": {"properties": {"plan": "new"}}})

    async def announced() -> bool:
        return await _announced(stack) == 1

    for _ in range(2):
        answer = await stack.gateway.http.post("/v1/webhooks/posthog", content=body)
        assert answer.is_success, answer.text
        await eventually(announced)
    (stored,) = (await stack.events())["events"]
    assert stored["backfilled"] is False
    known_by = {name: stored[name] for name in ("source", "id", "event", "userId")}
    way = await stack.gateway.http.get("/v1/admin/events/trace", params=known_by, headers=admin())
    # Those of the webhook: a backfill is not queued.
    times = (stored["receivedAt"], way.json()["queuedAt"], way.json()["storedAt"])
    assert list(times) == sorted(times)


async def test_older_properties_do_not_replace_newer_ones(stack: Stack) -> None:
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
    answer = await stack.gateway.http.get(
        "/v1/admin/contacts", params={"key": "u_0"}, headers=admin()
    )
    (contact,) = answer.json()["contacts"]
    assert contact["properties"]["plan"] == "new"


async def test_a_token_that_expires_while_posthog_cannot_refresh_it_is_waited_for(
    servers: Servers,
    database_url: str,
    fresh_bus: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runner, "FAILURE_SECONDS", 0.1)
    begin, run = asyncio.Event(), runner.BackfillRunner.run

    async def once_begun(self: runner.BackfillRunner) -> Never:
        await begin.wait()
        await run(self)

    monkeypatch.setattr(runner.BackfillRunner, "run", once_begun)
    ahead = timedelta(0)
    async with whole(
        servers, database_url, tmp_path, personal=False, now=lambda: datetime.now(UTC) + ahead
    ) as stack:
        await capture(stack.posthog, 10)
        await stack.connect()
        async with stack.provisioner():
            assert (await stack.start()).is_success
            ahead = timedelta(days=30)
            stack.posthog.instance.faults.replace({"oauth": Fault(status=503)})
            begin.set()

            async def waits() -> bool:
                found = await stack.latest()
                assert found["state"] == "running"
                return "not refreshed yet" in (found["detail"] or "")

            await eventually(waits, timeout=60)
            stack.posthog.instance.faults.replace({})
            # Past the pause after a refresh that failed.
            ahead += timedelta(minutes=2)
            ended = await stack.until("finished")
    assert (ended["read"], ended["stored"]) == (10, 10)


async def test_a_nul_in_a_name_is_what_postgresql_has_for_it(stack: Stack) -> None:
    async with stack.provisioner():
        started = await stack.start(events=["a\0b"])
        assert started.json()["events"] == ["a\ufffdb"]


@pytest.mark.parametrize("status", [503, 400])
async def test_an_error_page_with_a_nul_is_kept_as_the_reason(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """PostgreSQL takes no NUL, which a proxy's page in UTF-16 has behind every letter."""
    page = queries.Queries.page

    async def fail(self: Any, *args: Any) -> Any:
        raise PostHogError("B\0a\0d", status)

    monkeypatch.setattr(runner, "FAILURE_SECONDS", 0.05)
    monkeypatch.setattr(queries.Queries, "page", fail)
    async with stack.provisioner():
        assert (await stack.start()).is_success

        async def says_why() -> bool:
            return "B\ufffda\ufffdd" in ((await stack.latest()).get("detail") or "")

        await eventually(says_why)
        monkeypatch.setattr(queries.Queries, "page", page)
        if status == 503:
            await stack.until("finished")


async def test_an_event_that_is_too_large_by_itself_is_left_out(
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


async def test_a_key_without_the_scope_is_refused_with_the_remedy(stack: Stack) -> None:
    stack.posthog.instance.options = msgspec.structs.replace(
        stack.posthog.instance.options, personal_key_scopes=("project:read",)
    )
    async with stack.provisioner():
        answer = await stack.start()
    assert (answer.status_code, answer.json()["error"]) == (502, "missing-scope")
    assert "query:read" in answer.json()["remediation"]


async def test_what_posthog_cannot_count_at_once_is_to_be_brought_in_parts(stack: Stack) -> None:
    async with stack.provisioner():
        for status, in_parts in ((512, True), (503, False)):
            stack.posthog.instance.faults.replace({"api": Fault(status=status)})
            answer = await stack.start()
            assert (answer.status_code, answer.json()["error"]) == (502, "api-error")
            assert ("in parts" in answer.json()["remediation"]) is in_parts


async def test_a_cancelled_backfill_stays_cancelled_until_it_is_started_again(
    stack: Stack,
) -> None:
    await capture(stack.posthog, 10)
    stack_posthog = stack.posthog.instance
    async with stack.provisioner():
        started = (await stack.start()).json()
        stack_posthog.faults.replace({"api": Fault(status=503)})
        cancel = f"{URL}/{started['id']}/cancel"
        cancelled = await stack.gateway.http.post(cancel, headers=admin())
        assert cancelled.json()["state"] in {"cancelled", "finished"}
        stack_posthog.faults.replace({})
        gone = await stack.gateway.http.post(f"{URL}/{'0' * 32}/cancel", headers=admin())
        assert gone.status_code == 404
        nonsense = await stack.gateway.http.post(f"{URL}/x/cancel", headers=admin())
        assert nonsense.status_code == 404
        again = (await stack.start()).json()
        assert (again["id"] == started["id"]) is (cancelled.json()["state"] == "cancelled")
        assert (await stack.until("finished"))["read"] == 10


async def test_one_begins_at_once_and_ends_now_by_a_clock_that_is_behind_postgresqls(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    await capture(stack.posthog, 10)

    class Behind(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return datetime(2026, 1, 5, tzinfo=tz)

    for module in (backfills, runner):
        # What does not ask for the time needs no other clock.
        monkeypatch.setattr(module, "datetime", Behind, raising=False)
    async with stack.provisioner():
        assert (await stack.start()).json()["state"] == "running"
        assert (await stack.until("finished"))["read"] == 10


async def test_one_that_is_to_end_later_ends_now_and_goes_on_when_it_is_started_again(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with `--until` and the day after, which holds all of today."""
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


async def test_what_a_backfill_brings_is_received_when_it_is_brought(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events are kept for some days from then on, and it may have waited for longer."""
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


async def test_a_backfill_goes_on_with_its_own_project_only(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "PAGE_EVENTS", 4)
    monkeypatch.setattr(runner, "FAILURE_SECONDS", 0.05)
    await capture(stack.posthog, 10)
    instance, asked = stack.posthog.instance, 0

    def become(id: int) -> None:
        # As somebody does who connects another project, or opens it in PostHog.
        instance.project = msgspec.structs.replace(instance.project, id=id)

    page = queries.Queries.page

    async def connect_another_after_one(self: Any, *args: Any) -> Any:
        nonlocal asked
        found = await page(self, *args)
        asked += 1
        if asked == 1:
            become(5)
        return found

    monkeypatch.setattr(queries.Queries, "page", connect_another_after_one)
    async with stack.provisioner():
        first = (await stack.start()).json()
        failed = await stack.until("failed")
        assert (failed["id"], failed["read"]) == (first["id"], 4)
        assert "/project/4242" in failed["detail"]
        assert "/project/5" in failed["detail"]
        second = (await stack.start()).json()
        assert second["id"] != first["id"]
        assert (await stack.until("finished"))["read"] == 10
        become(4242)
        assert (await stack.start()).json()["id"] == first["id"]
        assert (await stack.until("finished"))["read"] == 10

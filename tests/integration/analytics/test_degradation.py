"""The spec's degradation table: a capability is off alone, and works again once it is configured.

All services run against the sandbox, which captures, evaluates flags, shows persons, and delivers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from hogsend.client.client import Client
from hogsend.contract.streams import StreamName
from hogsend.contract.users import User
from hogsend.posthog.client_document import CLIENT_ID
from hogsend.posthog.scopes import SCOPES
from hogsend.transport.connection import Connection
from sandbox.options import Resolve
from services.analytics.destinations.store import DestinationStore
from tests.integration.harness import (
    Gateway,
    admin,
    analytics_service,
    client,
    credentials_service,
    gateway_service,
    provisioner_service,
)
from tests.integration.ingest.driver import Driver as Ingest
from tests.integration.sandbox.driver import Driver as Sandbox
from tests.integration.sandbox.driver import sandbox
from tests.ports import free_port
from tests.posthog_recorder import serving
from tests.servers import Servers
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("fresh_bus")

CREDENTIAL = "/v1/admin/provider-credentials/posthog"
PROVISION = "/v1/admin/analytics/provision-loop"
CAPABILITIES = "/v1/admin/capabilities"
KEY = "phc_sandbox_project_key"
READ_ONLY = " ".join(scope for scope in SCOPES if scope != "hog_function:write")

CAPTURE, WRITES, READS = "eventCapture", "personWrites", "personReads"
IN, OUT, PROVISIONING = "eventsIn", "engagementOut", "loopProvisioning"
ALL = {CAPTURE, WRITES, READS, IN, OUT, PROVISIONING}


@dataclass
class Stack:
    """All services, and the sandbox as PostHog."""

    posthog: Sandbox
    front: Gateway
    member: Client
    ingest: Ingest
    number: int = 0
    rows_lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def connect(self, scope: str = " ".join(SCOPES)) -> None:
        """Do what `hogsend connect posthog` does before it provisions."""
        tokens = await self.posthog.tokens(scope=scope)
        expires = datetime.now(UTC) + timedelta(seconds=tokens["expires_in"])
        payload = {
            "accessToken": tokens["access_token"],
            "refreshToken": tokens["refresh_token"],
            "expiresAt": expires.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "tokenEndpoint": f"{self.posthog.url}/oauth/token/",
            "clientId": CLIENT_ID,
            "scopes": scope.split(" "),
            "scopedTeams": [4242],
            "scopedOrganizations": [],
        }
        body = {"kind": "oauth", "payload": payload}
        response = await self.front.http.put(CREDENTIAL, json=body, headers=admin())
        assert response.is_success, response.text

    async def provision(self) -> httpx.Response:
        return await self.front.http.post(PROVISION, json={}, headers=admin())

    async def states(self) -> dict[str, str]:
        """State of every capability, by name."""
        response = await self.front.http.get(CAPABILITIES, headers=admin())
        rows = response.json()["capabilities"]
        for row in rows:
            assert row["reason"]
            assert row["state"] == "on" or row.get("remediation"), row
        return {row["name"]: row["state"] for row in rows}

    async def on(self) -> set[str]:
        return {name for name, state in (await self.states()).items() if state == "on"}

    def person(self) -> str:
        """A new person's user id."""
        self.number += 1
        return f"u_{self.number}_{uuid4().hex[:6]}"

    async def recorded(self, person: str) -> bool:
        """Whether Hogsend has an event of this person."""
        sql = "SELECT count(*) FROM ingest.events WHERE user_id = $1"
        async with self.rows_lock:
            return bool(await self.ingest.rows.fetchval(sql, person))

    async def settled(self, stream: StreamName) -> None:
        """Wait until a stream is empty, so that PostHog receives nothing more of it."""

        async def is_empty() -> bool:
            info = await self.ingest.operator.js.stream_info(stream)
            return info.state.messages == 0

        await eventually(is_empty)

    def captured(self, event: str, person: str) -> bool:
        return any(
            captured.event == event and captured.distinct_id == person
            for captured in self.posthog.instance.pipeline.events.values()
        )


async def captures(stack: Stack) -> bool:
    person = stack.person()
    await stack.member.capture("upgraded", person)
    flag = await stack.member.flags.get("beta", person)
    assert flag in {None, True}
    await stack.settled(StreamName.PERSONS)
    return flag is True and stack.captured("upgraded", person)


async def writes(stack: Stack) -> bool:
    person = stack.person()
    await stack.member.persons.set(person, {"plan": "pro"})
    await stack.settled(StreamName.PERSONS)
    stored = stack.posthog.instance.people.find(person)
    return stored is not None and stored.properties.get("plan") == "pro"


async def reads(stack: Stack) -> bool:
    person = stack.person()
    await stack.posthog.capture("$set", person, properties={"$set": {"plan": "pro"}})
    zone = await stack.member.timezone(person)
    assert zone.timezone == "UTC"
    return (await stack.member.persons.get(person)).get("plan") == "pro"


async def delivers(stack: Stack) -> bool:
    person, uuid = stack.person(), str(uuid4())
    properties = {"$is_identified": True, "$set": {"plan": "pro"}}
    await stack.posthog.capture("signed_up", person, properties=properties, uuid=uuid)
    # By now, PostHog has created the deliveries of this event.
    deliveries = [
        delivery
        for delivery in stack.posthog.instance.deliveries.all
        if delivery.event_uuid == uuid
    ]
    await eventually(lambda: all(delivery.outcome != "pending" for delivery in deliveries))
    if not any(delivery.outcome == "delivered" for delivery in deliveries):
        return False
    await eventually(lambda: stack.recorded(person))
    return True


async def engages(stack: Stack) -> bool:
    person = stack.person()
    await stack.member.engagement.report("email.opened", {"userId": person})

    # Hogsend records the report, whether or not PostHog receives it.
    await eventually(lambda: stack.recorded(person))
    await stack.settled(StreamName.ENGAGEMENT)
    return stack.captured("email.opened", person)


async def provisions(stack: Stack) -> bool:
    response = await stack.provision()
    assert response.status_code in {200, 409, 502}, response.text
    return response.status_code == 200


WORKS: dict[str, Callable[[Stack], Awaitable[bool]]] = {
    CAPTURE: captures,
    WRITES: writes,
    READS: reads,
    IN: delivers,
    OUT: engages,
    PROVISIONING: provisions,
}


@dataclass(frozen=True)
class Start:
    """The configuration that services start with."""

    key: str | None = KEY
    enabled: bool = True
    personal_key: str | None = None
    scope: str | None = " ".join(SCOPES)
    provisioned: bool = True
    secret: str | None = "s"
    public_url: str = "http://hogsend.test"


@dataclass(frozen=True)
class Row:
    """A degraded start, the capabilities that are off, and how they are restored."""

    start: Start
    off: set[str]
    waits: bool = False
    """Whether captures and writes wait for the project that provisioning is about to store."""
    restart: Start | None = None
    """The configuration to restart with; None if no restart is needed."""
    repair: Callable[[Stack], Awaitable[object]] | None = None


async def _connect(stack: Stack) -> None:
    await stack.connect()


async def _provision(stack: Stack) -> None:
    assert (await stack.provision()).status_code == 200


async def _connect_and_provision(stack: Stack) -> None:
    await stack.connect()
    await _provision(stack)


async def _disable_destinations(stack: Stack) -> None:
    functions = await stack.posthog.http.get(
        "/api/projects/4242/hog_functions/?type=destination", headers=stack.posthog.key
    )
    for function in functions.json()["results"]:
        await stack.posthog.http.patch(
            f"/api/projects/4242/hog_functions/{function['id']}/",
            json={"enabled": False},
            headers=stack.posthog.key,
        )


ROWS = {
    "capture and writes, by credential event": Row(
        Start(key=None, provisioned=False),
        {CAPTURE, WRITES, OUT, IN},
        waits=True,
        repair=_provision,
    ),
    "capture and writes, by environment": Row(
        Start(key=None, provisioned=False), {CAPTURE, WRITES, OUT, IN}, waits=True, restart=Start()
    ),
    "reads, by credential event": Row(
        Start(scope=None, provisioned=False),
        {READS, PROVISIONING, IN},
        repair=_connect_and_provision,
    ),
    "reads, by environment": Row(
        Start(scope=None, provisioned=False),
        {READS, PROVISIONING, IN},
        restart=Start(scope=None, personal_key="phx_sandbox_personal_key"),
    ),
    "events in, by provisioning": Row(Start(provisioned=False), {IN}, repair=_provision),
    "events in, by a generated secret": Row(
        Start(provisioned=False, secret=None), {IN}, repair=_provision
    ),
    "engagement, by environment": Row(Start(enabled=False), {OUT}, restart=Start()),
    "provisioning, by a wider scope": Row(
        Start(scope=READ_ONLY, provisioned=False), {PROVISIONING, IN}, repair=_connect_and_provision
    ),
    "provisioning, by a public address": Row(
        Start(public_url="http://localhost:3002", provisioned=False),
        {PROVISIONING, IN},
        restart=Start(),
    ),
    "nothing configured, by environment": Row(
        Start(key=None, enabled=False, scope=None, provisioned=False, secret=None),
        ALL,
        restart=Start(),
    ),
}


@pytest.mark.parametrize("name", ROWS)
async def test_each_degraded_capability_is_off_alone_and_is_restored(
    name: str, servers: Servers, database_url: str, tmp_path: Path
) -> None:
    row = ROWS[name]
    async with _posthog() as posthog:
        async with running(servers, database_url, tmp_path, posthog, row.start) as stack:
            await eventually(lambda: _has_on(stack, ALL - row.off))
            waiting = await _capture_without_project(stack) if row.waits else None
            if waiting is None:
                await _check_capabilities(stack, on=ALL - row.off)
            if row.repair is not None:
                await row.repair(stack)
                await eventually(lambda: _has_on(stack, ALL))
                await _check_capabilities(stack, on=ALL)
        if row.restart is not None:
            async with running(servers, database_url, tmp_path, posthog, row.restart) as stack:
                await eventually(lambda: _has_on(stack, ALL))
                await _check_capabilities(stack, on=ALL)
        if waiting is not None:
            # Later events of `_check_capabilities` have arrived, and a stream is read in order.
            assert stack.captured("upgraded", waiting)


async def test_a_deleted_credential_disables_only_the_capabilities_that_need_it(
    servers: Servers, database_url: str, tmp_path: Path
) -> None:
    async with (
        _posthog() as posthog,
        running(servers, database_url, tmp_path, posthog, Start()) as stack,
    ):
        await eventually(lambda: _has_on(stack, ALL))
        response = await stack.front.http.delete(CREDENTIAL, headers=admin())
        assert response.is_success
        # The destination still delivers events, but Hogsend can no longer check it.
        await eventually(lambda: _has_on(stack, {CAPTURE, WRITES, OUT}))
        await _check_capabilities(stack, on={CAPTURE, WRITES, OUT, IN})
        await stack.connect()
        await eventually(lambda: _has_on(stack, ALL))
        await _disable_destinations(stack)
        await eventually(lambda: _has_on(stack, ALL - {IN}))


async def _has_on(stack: Stack, expected: set[str]) -> bool:
    return await stack.on() == expected


async def _check_capabilities(stack: Stack, *, on: set[str]) -> None:
    """Check that exactly the capabilities in `on` work, and that the others do not raise."""
    # Provisioning is tried only if it is on: it would restore other capabilities.
    names = [name for name in WORKS if name != PROVISIONING or name in on]
    outcomes = await asyncio.gather(*(WORKS[name](stack) for name in names))
    assert {name for name, works in zip(names, outcomes, strict=True) if works} == on


async def _capture_without_project(stack: Stack) -> str:
    """Capture for a person; check that PostHog has received nothing and that flags are unknown."""
    person = stack.person()
    await stack.member.capture("upgraded", person)
    assert await stack.member.flags.get("beta", person) is None
    assert not await delivers(stack)
    assert not await engages(stack)
    assert not stack.captured("upgraded", person)
    return person


@asynccontextmanager
async def _posthog() -> AsyncIterator[Sandbox]:
    resolve = (Resolve("hogsend.test", "127.0.0.1", free_port()),)
    async with sandbox(resolve=resolve) as posthog:
        await posthog.http.put("/_sandbox/flags", json=[{"key": "beta"}])
        yield posthog


@asynccontextmanager
async def running(
    servers: Servers,
    database_url: str,
    resolver: Path,
    posthog: Sandbox,
    start: Start,
) -> AsyncIterator[Stack]:
    environment = {
        "posthog_api_key": start.key,
        "posthog_host": posthog.url,
        "posthog_webhook_secret": start.secret,
    }
    settings = {
        "enable_posthog_destination": start.enabled,
        "outbound_webhook_base_delay_ms": 10,
    }
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        await enter(credentials_service(servers, database_url, personal_key=start.personal_key))
        await enter(
            provisioner_service(
                servers, database_url, posthog=environment, public_url=start.public_url
            )
        )
        ingest = Ingest(servers, database_url)
        await enter(ingest.connected())
        await enter(ingest.replica())
        analytics = await enter(
            analytics_service(servers, database_url, posthog=environment, settings=settings)
        )
        front = await enter(
            gateway_service(servers, resolver, posthog=environment, public_url=start.public_url)
        )
        await enter(serving(front.app, posthog.instance.options.resolve[0].port))
        member = await enter(client(servers, User.APP))
        started = Stack(posthog, front, member, ingest)
        if start.scope is not None:
            await started.connect(start.scope)
        if start.provisioned:
            await _provision(started)
        if start.enabled and start.key:
            await _has_default(DestinationStore(analytics.database), ingest.operator)
        yield started


async def _has_default(store: Any, operator: Connection) -> None:
    async def has_consumer() -> bool:
        consumers = await operator.js.consumers_info(StreamName.ENGAGEMENT)
        durables = {f"destination-{destination.id}" for destination in await store.all()}
        return bool(durables) and durables <= {info.name for info in consumers}

    await eventually(has_consumer)

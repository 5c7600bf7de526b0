"""What the demo does, and what it measures on the way."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

import httpx
import msgspec
from rich.console import Console

import hogsend
from cli.console import out
from cli.demo import connecting
from cli.demo.posthog import DemoPostHog
from cli.errors import CommandError
from cli.stack.stack import Stack
from hogsend.client.subscriptions import CredentialChanges
from hogsend.contract.capabilities import Capabilities
from hogsend.contract.credentials import CredentialChanged
from hogsend.contract.events import Event
from hogsend.contract.users import User

EVENT = "signed_up"
EMAIL = "ada@example.com"
OPENED = "email.opened"
ARRIVAL_SECONDS = 20.0
REFRESH_SECONDS = 40.0
CONSUMERS = ("gateway", "provisioner", "analytics")
"""Services that work with the credential and say in health which version they hold."""


class Timings(msgspec.Struct, frozen=True, rename="camel"):
    """Milliseconds from the capture in PostHog until the event was there."""

    captured: float
    gateway: float
    nats: float
    postgres: float


class Returned(msgspec.Struct, frozen=True, rename="camel"):
    """Milliseconds from a service's report until PostHog had it, and to read the person there."""

    engagement: float
    person: float


class Refreshed(msgspec.Struct, frozen=True, rename="camel"):
    """A refresh, and milliseconds from its event until each consumer held the new version."""

    version: int
    consumers: dict[str, float]


class Told(msgspec.Struct, frozen=True, rename="camel"):
    """The demo in figures."""

    verdict: str
    hog_function_id: str | None
    event_id: str
    arrival_ms: Timings
    return_ms: Returned
    refresh: Refreshed


class Story:
    """The loop, once around."""

    def __init__(self, stack: Stack, posthog: DemoPostHog, *, quiet: bool) -> None:
        """Tell it on a running stack, with `posthog` beside it; say nothing when `quiet`."""
        self._console = Console(quiet=True) if quiet else out
        self._stack = stack
        self._posthog = posthog
        self._admin = httpx.AsyncClient(
            base_url=stack.base_url,
            headers={"Authorization": f"Bearer {stack.admin_key}"},
            timeout=5.0,
        )

    async def tell(self) -> Told:
        """Connect, capture, watch it arrive, watch the token being refreshed.

        Raises:
            CommandError: a step did not work.
        """
        async with hogsend.connect(self._stack.nats_url(User.SUBSCRIBER)) as bus:
            # What an earlier demo stored belongs to a PostHog that is gone.
            await self._admin.delete("/v1/admin/provider-credentials/posthog")
            changes = bus.credential_changes("posthog")
            connected = await self._connect()
            event, arrival = await self._capture(bus)
            returned = await self._react(event)
            refreshed = await self._refresh(changes)
        await self._admin.aclose()
        return Told(
            connected.verdict,
            connected.provision.hog_function_id,
            event.id,
            arrival,
            returned,
            refreshed,
        )

    async def _connect(self) -> connecting.Connected:
        self._step(
            1, "Connect", "hogsend " + " ".join(connecting.command(self._stack.base_url)[:2])
        )
        started = time.perf_counter()
        environment = {
            **self._stack_environment(),
            "HOGSEND_ADMIN_KEY": self._stack.admin_key,
        }
        with self._console.status("PKCE, consent, exchange, destination"):
            connected = await connecting.connect(
                self._stack.base_url, environment, self._stack.home.path
            )
        took = _milliseconds_since(started)
        self._fact("credential", "sealed, tokens known to one service only")
        self._fact("destination", f"{connected.provision.webhook_url} in PostHog")
        self._fact("took", f"{took:.0f} ms")
        return connected

    def _stack_environment(self) -> dict[str, str]:
        (sandbox,) = self._stack.beside
        return dict(sandbox.environment)

    async def _capture(self, bus: hogsend.Client) -> tuple[Event, Timings]:
        self._step(2, "Capture", f"{EVENT} of {EMAIL}, sent to PostHog")
        began, started = datetime.now(UTC), time.perf_counter()
        event_uuid = await self._posthog.capture(EVENT, "u_42", EMAIL)
        captured = _milliseconds_since(started)
        try:
            async with asyncio.timeout(ARRIVAL_SECONDS):
                event = await _arrival(bus, event_uuid)
                on_nats = _milliseconds_since(started)
                await self._in_postgres(event_uuid)
                in_postgres = _milliseconds_since(started)
                answered = await self._posthog.delivered(event_uuid)
        except TimeoutError:
            raise CommandError(
                f"the event did not arrive within {ARRIVAL_SECONDS:.0f} s",
                f"look at the logs in {self._stack.home.logs}",
            ) from None
        at_gateway = (event.received_at - began).total_seconds() * 1000
        self._fact("PostHog", "has captured it", captured)
        self._fact(
            "HTTP", f"POST /v1/webhooks/posthog, answered 200 in {answered:.0f} ms", at_gateway
        )
        self._fact("NATS", f"hogsend.events.{event.event}, user {event.user_id}", on_nats)
        self._fact("PostgreSQL", f"a row, contact {event.email}", in_postgres)
        return event, Timings(captured, at_gateway, on_nats, in_postgres)

    async def _react(self, event: Event) -> Returned:
        self._step(3, "React", f"a service mails {event.email}, who opens it")
        user = event.user_id
        try:
            async with (
                asyncio.timeout(ARRIVAL_SECONDS),
                hogsend.connect(self._stack.nats_url(User.APP)) as bus,
            ):
                await self._until_engagement_travels()
                started = time.perf_counter()
                person = await bus.persons.get(user)
                read = _milliseconds_since(started)
                self._fact("persons.get", f"plan {person.get('plan')}, from PostHog", read)
                started = time.perf_counter()
                await bus.engagement.report(OPENED, {"userId": user, "to": event.email})
                self._fact("report", f"hogsend.engagement.{OPENED}", _milliseconds_since(started))
                await self._posthog.has_captured(OPENED, user)
                back = _milliseconds_since(started)
                self._fact("PostHog", f"has captured {OPENED} on the same person", back)
        except TimeoutError:
            raise CommandError(
                f"PostHog did not hear of it within {ARRIVAL_SECONDS:.0f} s",
                f"look at {self._stack.home.logs}/analytics.log",
            ) from None
        return Returned(back, read)

    async def _until_engagement_travels(self) -> None:
        while True:
            answer = await self._admin.get("/v1/admin/capabilities")
            rows = msgspec.json.decode(answer.content, type=Capabilities).capabilities
            if any(row.name == "engagementOut" and row.state == "on" for row in rows):
                return
            await asyncio.sleep(0.2)

    async def _in_postgres(self, event_uuid: str) -> None:
        while True:
            answer = await self._admin.get("/v1/admin/events", params={"event": EVENT})
            if event_uuid in answer.text:
                return
            await asyncio.sleep(0.1)

    async def _refresh(self, changes: CredentialChanges) -> Refreshed:
        seconds = self._posthog.options.token_seconds
        self._step(
            4,
            "Refresh",
            f"the access token lives {seconds} s here and is refreshed 60 s before its end",
        )
        try:
            async with asyncio.timeout(REFRESH_SECONDS):
                with self._console.status("waiting for it"):
                    change = await _next_refresh(changes)
                heard = time.perf_counter()
                self._fact("credentials", f"refreshed and stored, version {change.version}")
                consumers = {"this terminal": 0.0}
                waiting = set(CONSUMERS)
                async with httpx.AsyncClient(base_url=self._stack.base_url) as http:
                    while waiting:
                        services = (await http.get("/v1/health")).json()["services"]
                        for name in sorted(waiting):
                            held = services[name].get("credentialVersion") or 0
                            if held >= change.version:
                                waiting.discard(name)
                                consumers[name] = _milliseconds_since(heard)
        except TimeoutError:
            raise CommandError(
                f"no refresh reached everybody within {REFRESH_SECONDS:.0f} s",
                f"look at {self._stack.home.logs}/credentials.log",
            ) from None
        for name, took in consumers.items():
            self._fact(name, f"works with version {change.version}", took)
        return Refreshed(change.version, consumers)

    def _step(self, number: int, name: str, what: str) -> None:
        self._console.print(f"\n[bold cyan]{number} {name}[/]  {what}", soft_wrap=True)

    def _fact(self, name: str, what: str, took: float | None = None) -> None:
        """Say one thing that happened, and how long after the start of its step."""
        when = f"{took:7.1f} ms" if took is not None else " " * 10
        self._console.print(f"  [dim]{when}[/]  [bold]{name:<13}[/] {what}", soft_wrap=True)


async def _arrival(bus: hogsend.Client, event_id: str) -> Event:
    # A durable consumer misses nothing, however late it is made.
    async for event in bus.events(EVENT, durable="hogsend-demo"):
        if event.id == event_id:
            return event
    raise CommandError("NATS closed the connection")


async def _next_refresh(changes: CredentialChanges) -> CredentialChanged:
    while True:
        change = await anext(changes)
        if change.change == "refreshed":
            return change


def _milliseconds_since(started: float) -> float:
    """Milliseconds on the clock of `time.perf_counter`."""
    return round((time.perf_counter() - started) * 1000, 1)

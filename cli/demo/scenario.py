"""The steps of the demo, and its measurements."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

import msgspec
from rich.console import Console
from rich.text import Text

import hogsend
from cli.console import out, print_hanging
from cli.demo import connecting
from cli.demo.posthog import DemoPostHog
from cli.errors import CommandError
from cli.local_http import local_http
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
"""Services that use the credential and report in the health document which version they have."""


class ArrivalTimes(msgspec.Struct, frozen=True, rename="camel"):
    """Milliseconds from the start of the capture until the event reached each part."""

    captured: float
    gateway: float
    nats: float
    postgres: float


class ReturnTimes(msgspec.Struct, frozen=True, rename="camel"):
    """Milliseconds from a service's report until PostHog captured it, and for a person read."""

    engagement: float
    person: float


class RefreshTimes(msgspec.Struct, frozen=True, rename="camel"):
    """The credential's version after a refresh, and milliseconds until each service used it."""

    version: int
    consumers: dict[str, float]


class Measurements(msgspec.Struct, frozen=True, rename="camel"):
    """The measurements of the demo: its JSON document."""

    verdict: str
    hog_function_id: str | None
    event_id: str
    arrival_ms: ArrivalTimes
    return_ms: ReturnTimes
    refresh: RefreshTimes


class Scenario:
    """Connects PostHog and follows one event from there to a service and back."""

    def __init__(self, stack: Stack, posthog: DemoPostHog, *, quiet: bool) -> None:
        """Run in a running stack with the sandbox `posthog`; print nothing if `quiet`."""
        self._console = Console(quiet=True) if quiet else out
        self._stack = stack
        self._posthog = posthog
        self._admin = local_http(stack.base_url, key=stack.admin_key)

    async def run(self) -> Measurements:
        """Connect, capture an event, report engagement, wait for a token refresh.

        Raises:
            CommandError: a step failed.
        """
        async with hogsend.connect(self._stack.nats_url(User.SUBSCRIBER)) as client:
            # An earlier demo's credential belongs to a sandbox that no longer runs.
            await self._admin.delete("/v1/admin/provider-credentials/posthog")
            changes = client.credential_changes("posthog")
            connected = await self._connect()
            event, arrival = await self._capture(client)
            returned = await self._react(event)
            refreshed = await self._refresh(changes)
        await self._admin.aclose()
        return Measurements(
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
        took = _elapsed_ms(started)
        self._report("credential", "sealed; one service alone can read the tokens")
        self._report("destination", f"{connected.provision.webhook_url} in PostHog")
        self._report("took", f"{took:.0f} ms")
        return connected

    def _stack_environment(self) -> dict[str, str]:
        (sandbox,) = self._stack.extra_programs
        return dict(sandbox.environment)

    async def _capture(self, client: hogsend.Client) -> tuple[Event, ArrivalTimes]:
        self._step(2, "Capture", f"{EVENT} of {EMAIL}, sent to PostHog")
        started_at, started = datetime.now(UTC), time.perf_counter()
        event_uuid = await self._posthog.capture(EVENT, "u_42", EMAIL)
        captured = _elapsed_ms(started)
        try:
            async with asyncio.timeout(ARRIVAL_SECONDS):
                event = await _wait_for_event(client, event_uuid)
                on_nats = _elapsed_ms(started)
                await self._wait_until_stored(event_uuid)
                in_postgres = _elapsed_ms(started)
                response_ms = await self._posthog.wait_for_delivery(event_uuid)
        except TimeoutError:
            raise CommandError(
                f"the event did not arrive within {ARRIVAL_SECONDS:.0f} s",
                f"see the logs in {self._stack.home.logs}",
            ) from None
        at_gateway = (event.received_at - started_at).total_seconds() * 1000
        self._report("PostHog", "has captured it", captured)
        self._report(
            "HTTP", f"POST /v1/webhooks/posthog, answered 200 in {response_ms:.0f} ms", at_gateway
        )
        self._report("NATS", f"hogsend.events.{event.event}, user {event.user_id}", on_nats)
        self._report("PostgreSQL", f"a row, contact {event.email}", in_postgres)
        return event, ArrivalTimes(captured, at_gateway, on_nats, in_postgres)

    async def _react(self, event: Event) -> ReturnTimes:
        self._step(3, "React", f"a service mails {event.email}, who opens it")
        user = event.user_id
        try:
            async with (
                asyncio.timeout(ARRIVAL_SECONDS),
                hogsend.connect(self._stack.nats_url(User.APP)) as client,
            ):
                await self._wait_for_engagement_out()
                started = time.perf_counter()
                person = await client.persons.get(user)
                person_ms = _elapsed_ms(started)
                self._report("persons.get", f"plan {person.get('plan')}, from PostHog", person_ms)
                started = time.perf_counter()
                await client.engagement.report(OPENED, {"userId": user, "to": event.email})
                self._report("report", f"hogsend.engagement.{OPENED}", _elapsed_ms(started))
                await self._posthog.wait_for_capture(OPENED, user)
                engagement_ms = _elapsed_ms(started)
                self._report("PostHog", f"has captured {OPENED} on the same person", engagement_ms)
        except TimeoutError:
            raise CommandError(
                f"PostHog did not receive the report within {ARRIVAL_SECONDS:.0f} s",
                f"see {self._stack.home.logs}/analytics.log",
            ) from None
        return ReturnTimes(engagement_ms, person_ms)

    async def _wait_for_engagement_out(self) -> None:
        while True:
            response = await self._admin.get("/v1/admin/capabilities")
            rows = msgspec.json.decode(response.content, type=Capabilities).capabilities
            if any(row.name == "engagementOut" and row.state == "on" for row in rows):
                return
            await asyncio.sleep(0.2)

    async def _wait_until_stored(self, event_uuid: str) -> None:
        while True:
            response = await self._admin.get("/v1/admin/events", params={"event": EVENT})
            if event_uuid in response.text:
                return
            await asyncio.sleep(0.1)

    async def _refresh(self, changes: CredentialChanges) -> RefreshTimes:
        seconds = self._posthog.options.token_seconds
        self._step(
            4,
            "Refresh",
            f"the access token is valid for {seconds} s here and refreshed 60 s before it expires",
        )
        try:
            async with asyncio.timeout(REFRESH_SECONDS):
                with self._console.status("waiting for the refresh"):
                    change = await _wait_for_refresh(changes)
                received = time.perf_counter()
                self._report("credentials", f"refreshed and stored, version {change.version}")
                consumers = {"this terminal": 0.0}
                waiting = set(CONSUMERS)
                async with local_http(self._stack.base_url) as http:
                    while waiting:
                        services = (await http.get("/v1/health")).json()["services"]
                        for name in sorted(waiting):
                            version = services[name].get("credentialVersion") or 0
                            if version >= change.version:
                                waiting.discard(name)
                                consumers[name] = _elapsed_ms(received)
        except TimeoutError:
            raise CommandError(
                f"not every service used a refreshed token within {REFRESH_SECONDS:.0f} s",
                f"see {self._stack.home.logs}/credentials.log",
            ) from None
        for name, took in consumers.items():
            self._report(name, f"uses version {change.version}", took)
        return RefreshTimes(change.version, consumers)

    def _step(self, number: int, name: str, text: str) -> None:
        print_hanging(self._console, (f"\n{number} {name}  ", "bold cyan"), text)

    def _report(self, name: str, text: str, took: float | None = None) -> None:
        """Print an outcome, with the milliseconds since the start of its measurement."""
        duration = f"{took:7.1f} ms" if took is not None else " " * 10
        line = Text.assemble("  ", (duration, "dim"), "  ", (f"{name:<13}", "bold"), f" {text}")
        self._console.print(line, soft_wrap=True)


async def _wait_for_event(client: hogsend.Client, event_id: str) -> Event:
    # A durable consumer also receives events that were published before it was created.
    async for event in client.events(EVENT, durable="hogsend-demo"):
        if event.id == event_id:
            return event
    raise CommandError("NATS closed the connection", "run it again")


async def _wait_for_refresh(changes: CredentialChanges) -> CredentialChanged:
    while True:
        change = await anext(changes)
        if change.change == "refreshed":
            return change


def _elapsed_ms(started: float) -> float:
    """Milliseconds since a `time.perf_counter` value."""
    return round((time.perf_counter() - started) * 1000, 1)

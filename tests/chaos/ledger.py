"""Sends events, and records which were sent, accepted and published."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

import httpx

import hogsend
from tests.chaos.target import Target

PEOPLE = 20
RESPONSE_SECONDS = 5.0
UNAVAILABLE = 503
ACCEPTED = frozenset({200, 202})


@dataclass
class Ledger:
    """The ids of all events, and their state."""

    sent: set[str] = field(default_factory=set)
    accepted: set[str] = field(default_factory=set)
    responses: Counter[str] = field(default_factory=Counter)
    """Number of responses by status. `none`: no response, so the event may or may not be stored."""
    unavailable_since: dict[str, float] = field(default_factory=dict)
    """For each route that returns only 503, since when, by the monotonic clock."""
    longest: dict[str, float] = field(default_factory=dict)
    """Longest time in seconds that each route returned only 503."""
    received: Counter[str] = field(default_factory=Counter)
    """Number of times that each event was received from the bus."""

    def record(self, route: str, status: int, now: float) -> None:
        """Record a response."""
        self.responses[str(status)] += 1
        if status == UNAVAILABLE:
            self.unavailable_since.setdefault(route, now)
        elif route in self.unavailable_since:
            seconds = now - self.unavailable_since.pop(route)
            self.longest[route] = max(seconds, self.longest.get(route, 0.0))

    def lost_rows(self, stored: set[str]) -> set[str]:
        """Events that were accepted and not stored."""
        return self.accepted - stored

    def lost_messages(self) -> set[str]:
        """Events that were accepted and never published."""
        return self.accepted - self.received.keys()

    def never_sent(self, stored: set[str]) -> set[str]:
        """Events that were stored or published, but not sent."""
        return (stored | self.received.keys()) - self.sent


class Client:
    """Sends numbered events at a constant rate: webhooks, and every fourth to `POST /v1/events`."""

    def __init__(self, stack: Target, ledger: Ledger, per_second: float) -> None:
        self._stack = stack
        self._ledger = ledger
        self._pause = 1 / per_second
        self._sending: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Send until cancelled. `finish` waits for the requests that are in progress then."""
        number = 0
        while True:
            number += 1
            task = asyncio.create_task(self._send(number))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
            await asyncio.sleep(self._pause)

    async def finish(self) -> None:
        """Wait for the last responses."""
        while self._sending:
            await asyncio.wait(self._sending)

    async def _send(self, number: int) -> None:
        id, person = f"e-{number:06}", f"u_{number % PEOPLE}"
        self._ledger.sent.add(id)
        try:
            if number % 4:
                event = {"event": "signed_up", "distinct_id": person, "uuid": id}
                response = await self._stack.http.post(
                    "/v1/webhooks/posthog", json={"event": event}, timeout=RESPONSE_SECONDS
                )
            else:
                response = await self._stack.http.post(
                    "/v1/events",
                    json={"event": "feature.used", "userId": person, "idempotencyKey": id},
                    headers=self._stack.admin,
                    timeout=RESPONSE_SECONDS,
                )
        except httpx.HTTPError:
            self._ledger.responses["none"] += 1
            return
        self._ledger.record(response.request.url.path, response.status_code, time.monotonic())
        if response.status_code in ACCEPTED:
            self._ledger.accepted.add(id)


async def subscribe(nats_url: str, ledger: Ledger) -> None:
    """Receive all events from the bus, until cancelled."""
    async with hogsend.connect(nats_url) as bus:
        async for event in bus.events(durable="ledger"):
            ledger.received[event.id] += 1

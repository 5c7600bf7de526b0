"""What was sent, what was accepted, and where it is in the end."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

import httpx

import hogsend
from tests.chaos.target import Target

PEOPLE = 20
ANSWER_SECONDS = 5.0
UNAVAILABLE = 503
ACCEPTED = frozenset({200, 202})


@dataclass
class Ledger:
    """Every event by its id."""

    sent: set[str] = field(default_factory=set)
    accepted: set[str] = field(default_factory=set)
    answers: Counter[str] = field(default_factory=Counter)
    """Answers by status; `none` when there was none, which says nothing about the event."""
    refusing: dict[str, float] = field(default_factory=dict)
    """Since when each route answers nothing but 503, in seconds of a monotonic clock."""
    longest: dict[str, float] = field(default_factory=dict)
    """Longest time each route did, in seconds."""
    heard: Counter[str] = field(default_factory=Counter)
    """How often each was on the bus."""

    def note(self, route: str, status: int, now: float) -> None:
        """Take note of an answer."""
        self.answers[str(status)] += 1
        if status == UNAVAILABLE:
            self.refusing.setdefault(route, now)
        elif route in self.refusing:
            took = now - self.refusing.pop(route)
            self.longest[route] = max(took, self.longest.get(route, 0.0))

    def lost_rows(self, stored: set[str]) -> set[str]:
        """Accepted and not stored."""
        return self.accepted - stored

    def lost_messages(self) -> set[str]:
        """Accepted and never announced."""
        return self.accepted - self.heard.keys()

    def invented(self, stored: set[str]) -> set[str]:
        """Stored or announced, and never sent."""
        return (stored | self.heard.keys()) - self.sent


class Client:
    """Sends numbered events at a steady rate: webhooks, and every fourth as a report."""

    def __init__(self, stack: Target, ledger: Ledger, per_second: float) -> None:
        self._stack = stack
        self._ledger = ledger
        self._pause = 1 / per_second
        self._sending: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Send until cancelled; whatever is under way is finished by `finish`."""
        number = 0
        while True:
            number += 1
            task = asyncio.create_task(self._send(number))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
            await asyncio.sleep(self._pause)

    async def finish(self) -> None:
        """Wait for the last answers."""
        while self._sending:
            await asyncio.wait(self._sending)

    async def _send(self, number: int) -> None:
        id, person = f"e-{number:06}", f"u_{number % PEOPLE}"
        self._ledger.sent.add(id)
        try:
            if number % 4:
                event = {"event": "signed_up", "distinct_id": person, "uuid": id}
                answer = await self._stack.http.post(
                    "/v1/webhooks/posthog", json={"event": event}, timeout=ANSWER_SECONDS
                )
            else:
                answer = await self._stack.http.post(
                    "/v1/events",
                    json={"event": "feature.used", "userId": person, "idempotencyKey": id},
                    headers=self._stack.admin,
                    timeout=ANSWER_SECONDS,
                )
        except httpx.HTTPError:
            self._ledger.answers["none"] += 1
            return
        self._ledger.note(answer.request.url.path, answer.status_code, time.monotonic())
        if answer.status_code in ACCEPTED:
            self._ledger.accepted.add(id)


async def listen(nats_url: str, ledger: Ledger) -> None:
    """Hear every event on the bus, until cancelled."""
    async with hogsend.connect(nats_url) as bus:
        async for event in bus.events(durable="ledger"):
            ledger.heard[event.id] += 1

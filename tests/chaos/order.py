"""`make chaos-order`: hurts replicas of ingest at random, and looks whether the order is kept.

Webhooks of many persons are queued without a pause, as the gateway does; some make one contact of
persons whose webhooks are in different partitions. Meanwhile replicas are killed (SIGKILL), frozen
(SIGSTOP), stopped and started, at random. At the end every event must be stored once and be on the
bus, and the first time of each must come in the order of its distinct id.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import asyncpg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import NotFoundError

from hogsend.contract.errors import Unavailable
from hogsend.contract.partitions import partition_consumer
from hogsend.contract.streams import StreamName
from hogsend.contract.users import User
from hogsend.service.tasks import cancel_all
from hogsend.transport.connection import Connection
from hogsend.transport.consumer import Consumer
from services.gateway.webhooks.posthog import parse_posthog, queued_posthog_webhook
from tests.integration import harness
from tests.running_stack import PYTHONPATH, ROOT
from tests.servers import Servers, running_servers
from tests.waiting import eventually

PATIENCE = 180.0
"""Seconds the last events may take at the end."""
PARTITIONS = 32
PERSONS = 300
MERGING = 0.1
"""Share of events with an address, which make one contact of persons of different slots."""


class Replicas:
    """Processes of ingest."""

    def __init__(self, servers: Servers, database_url: str) -> None:
        self._environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": PYTHONPATH,
            "NATS_URL": servers.nats_url(User.INGEST),
            "DATABASE_URL": database_url,
            "INGEST_PARTITIONS": str(PARTITIONS),
            "DATABASE_POOL_SIZE": "4",
            "LOG_LEVEL": "error",
        }
        self.running: list[subprocess.Popen[bytes]] = []
        self.done: Counter[str] = Counter()

    def start(self) -> None:
        """Start one more."""
        command = [sys.executable, "-m", "services", "serve", "ingest"]
        process = subprocess.Popen(command, cwd=ROOT, env=self._environment)
        self.running.append(process)

    async def signal(self, number: signal.Signals) -> None:
        """End any of them, and start another one in its place."""
        process = random.choice(self.running)  # noqa: S311
        process.send_signal(number)
        self.running.remove(process)
        await asyncio.to_thread(process.wait)
        self.done[number.name] += 1
        self.start()

    async def freeze(self, seconds: float) -> None:
        """Have any of them stand still for a while."""
        process = random.choice(self.running)  # noqa: S311
        process.send_signal(signal.SIGSTOP)
        self.done["SIGSTOP"] += 1
        await asyncio.sleep(seconds)
        process.send_signal(signal.SIGCONT)

    async def hurt(self, until: float) -> None:
        """Do one thing after the other to them."""
        while time.monotonic() < until:
            await asyncio.sleep(random.uniform(1, 5))  # noqa: S311
            match random.choice(["kill", "kill", "stop", "freeze"]):  # noqa: S311
                case "kill":
                    await self.signal(signal.SIGKILL)
                case "stop":
                    await self.signal(signal.SIGTERM)
                case _:
                    await self.freeze(random.uniform(1, 15))  # noqa: S311

    def end(self) -> None:
        """Kill what is left."""
        for process in self.running:
            process.kill()
            process.wait()


class Order:
    """What a subscriber of every event sees."""

    def __init__(self) -> None:
        self.seen: dict[str, set[int]] = {}
        self.last: dict[str, int] = {}
        self.repeated = 0
        self.wrong: list[str] = []

    @property
    def count(self) -> int:
        """Different events."""
        return sum(map(len, self.seen.values()))

    def note(self, event: dict[str, Any]) -> None:
        """See one."""
        person, number = event["userId"], event["properties"]["n"]
        seen = self.seen.setdefault(person, set())
        if number in seen:
            self.repeated += 1
            return
        seen.add(number)
        if number < self.last.get(person, -1):
            self.wrong.append(f"{person}: {number} after {self.last[person]}")
        self.last[person] = max(number, self.last.get(person, -1))


async def _queue(bus: Connection, rate: float, until: float) -> int:
    number = 0
    while time.monotonic() < until:
        for _ in range(max(1, round(rate / 20))):
            person = f"p{random.randrange(PERSONS)}"  # noqa: S311
            event = {
                "uuid": f"u-{number}",
                "event": "moved",
                "distinct_id": person,
                "properties": {"n": number},
            }
            hook: dict[str, Any] = {"event": event}
            if random.random() < MERGING:  # noqa: S311
                address = f"a{random.randrange(PERSONS)}@example.com"  # noqa: S311
                hook["person"] = {"properties": {"email": address}}
            webhook, body = parse_posthog(json.dumps(hook).encode())
            queued = queued_posthog_webhook(
                webhook, body, datetime.now(UTC), f"r-{number}", in_order=True
            )
            while True:
                try:
                    await bus.publisher.publish(queued.message)
                    break
                except Unavailable:
                    await asyncio.sleep(0.1)
            number += 1
        await asyncio.sleep(0.05)
    return number


async def _watch(bus: Connection, order: Order) -> None:
    config = ConsumerConfig(
        ack_policy=AckPolicy.EXPLICIT,
        deliver_policy=DeliverPolicy.ALL,
        filter_subject="hogsend.events.*",
        inactive_threshold=600,
    )
    async for messages in Consumer(bus, StreamName.EVENTS, config, batch=500).batches():
        for message in messages:
            order.note(json.loads(message.data))
            await message.ack()


async def keep_order(*, seed: int, seconds: float, per_second: float, replicas: int) -> Report:
    """Run for so many seconds, and say what came of it."""
    random.seed(seed)
    async with AsyncExitStack() as stack:
        servers = await stack.enter_async_context(running_servers())
        url = await stack.enter_async_context(servers.fresh_database())
        bus = await stack.enter_async_context(harness.connected(servers, User.GATEWAY))
        operator = await stack.enter_async_context(harness.connected(servers, User.OPERATOR))
        running = Replicas(servers, url)
        stack.callback(running.end)
        for _ in range(replicas):
            running.start()

        async def made() -> bool:
            last = str(partition_consumer(PARTITIONS - 1, PARTITIONS).durable_name)
            try:
                await operator.js.consumer_info(StreamName.WEBHOOKS, last)
            except NotFoundError:
                return False
            return True

        await eventually(made, PATIENCE)
        order = Order()
        watching = asyncio.create_task(_watch(operator, order))
        until = time.monotonic() + seconds
        queued, _ = await asyncio.gather(_queue(bus, per_second, until), running.hurt(until))
        with suppress(AssertionError):
            await eventually(lambda: order.count >= queued, PATIENCE)
        await cancel_all(watching)
        rows = await asyncpg.connect(url)
        stored = await rows.fetchval("SELECT count(*) FROM ingest.events")
        await rows.close()
    return Report(running.done, queued, stored, order)


@dataclass
class Report:
    """What came of it."""

    faults: Counter[str]
    queued: int
    stored: int
    order: Order

    def lines(self) -> list[str]:
        """For people."""
        order = self.order
        faults = ", ".join(f"{count} {what}" for what, count in sorted(self.faults.items()))
        return [
            f"faults    {faults}",
            f"queued    {self.queued}",
            f"stored    {self.stored}",
            f"on NATS   {order.count}, and {order.repeated} of them again",
            *(self.complaints() or ["nothing lost, nothing twice, everything in order"]),
        ]

    def complaints(self) -> list[str]:
        """What must not have come of it."""
        found = [f"out of order: {wrong}" for wrong in self.order.wrong]
        if self.stored != self.queued:
            found.append(f"{self.queued - self.stored} were not stored")
        if self.order.count != self.queued:
            found.append(f"{self.queued - self.order.count} were not on NATS")
        return found

"""`make chaos-order`: injects faults into replicas of ingest, and checks the order of events.

Webhooks of many persons are queued continuously, in the gateway's format. Some of them merge
persons whose webhooks are in different partitions. Meanwhile random replicas are killed (SIGKILL),
frozen (SIGSTOP) or stopped (SIGTERM) and started again. At the end every event must be stored once
and published, and the first deliveries of each distinct id's events must be in order.
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

MAX_WAIT_SECONDS = 180.0
"""Maximum time until the last events are published at the end."""
PARTITIONS = 32
PERSONS = 300
MERGE_SHARE = 0.1
"""Share of events with an email address, which merges persons of different slots."""


class Replicas:
    """Processes of ingest, and the faults that were injected into them."""

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
        self.faults: Counter[str] = Counter()

    def start(self) -> None:
        """Start another process."""
        command = [sys.executable, "-m", "services", "serve", "ingest"]
        process = subprocess.Popen(command, cwd=ROOT, env=self._environment)
        self.running.append(process)

    async def signal(self, number: signal.Signals) -> None:
        """End a random process with a signal, and start another one."""
        process = random.choice(self.running)  # noqa: S311
        process.send_signal(number)
        self.running.remove(process)
        await asyncio.to_thread(process.wait)
        self.faults[number.name] += 1
        self.start()

    async def freeze(self, seconds: float) -> None:
        """Suspend a random process for a number of seconds."""
        process = random.choice(self.running)  # noqa: S311
        process.send_signal(signal.SIGSTOP)
        self.faults["SIGSTOP"] += 1
        await asyncio.sleep(seconds)
        process.send_signal(signal.SIGCONT)

    async def inject_faults(self, until: float) -> None:
        """Inject random faults until a time of the monotonic clock."""
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
        """Kill the remaining processes."""
        for process in self.running:
            process.kill()
            process.wait()


class Order:
    """Checks the order of the events that a subscriber receives."""

    def __init__(self) -> None:
        self.received: dict[str, set[int]] = {}
        """Numbers of the received events, by distinct id."""
        self.highest: dict[str, int] = {}
        """Highest received number, by distinct id."""
        self.repeated = 0
        self.violations: list[str] = []

    @property
    def count(self) -> int:
        """Number of distinct events."""
        return sum(map(len, self.received.values()))

    def record(self, event: dict[str, Any]) -> None:
        """Record a received event."""
        person, number = event["userId"], event["properties"]["n"]
        received = self.received.setdefault(person, set())
        if number in received:
            self.repeated += 1
            return
        received.add(number)
        if number < self.highest.get(person, -1):
            self.violations.append(f"{person}: {number} after {self.highest[person]}")
        self.highest[person] = max(number, self.highest.get(person, -1))


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
            document: dict[str, Any] = {"event": event}
            if random.random() < MERGE_SHARE:  # noqa: S311
                address = f"a{random.randrange(PERSONS)}@example.com"  # noqa: S311
                document["person"] = {"properties": {"email": address}}
            webhook, body = parse_posthog(json.dumps(document).encode())
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
            order.record(json.loads(message.data))
            await message.ack()


async def check_order(*, seed: int, seconds: float, per_second: float, replicas: int) -> Report:
    """Queue webhooks and inject faults for a number of seconds, and return the report."""
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

        async def has_consumers() -> bool:
            last = str(partition_consumer(PARTITIONS - 1, PARTITIONS).durable_name)
            try:
                await operator.js.consumer_info(StreamName.WEBHOOKS, last)
            except NotFoundError:
                return False
            return True

        await eventually(has_consumers, MAX_WAIT_SECONDS)
        order = Order()
        watching = asyncio.create_task(_watch(operator, order))
        until = time.monotonic() + seconds
        queued, _ = await asyncio.gather(
            _queue(bus, per_second, until), running.inject_faults(until)
        )
        with suppress(AssertionError):
            await eventually(lambda: order.count >= queued, MAX_WAIT_SECONDS)
        await cancel_all(watching)
        connection = await asyncpg.connect(url)
        stored = await connection.fetchval("SELECT count(*) FROM ingest.events")
        await connection.close()
    return Report(running.faults, queued, stored, order)


@dataclass
class Report:
    """The result of a run."""

    faults: Counter[str]
    queued: int
    stored: int
    order: Order

    def lines(self) -> list[str]:
        """The report as text."""
        order = self.order
        faults = ", ".join(f"{count} {name}" for name, count in sorted(self.faults.items()))
        return [
            f"faults    {faults}",
            f"queued    {self.queued}",
            f"stored    {self.stored}",
            f"on NATS   {order.count}, and {order.repeated} of them again",
            *(self.violations() or ["nothing lost, nothing twice, everything in order"]),
        ]

    def violations(self) -> list[str]:
        """All guarantees that were broken."""
        violations = [f"out of order: {violation}" for violation in self.order.violations]
        if self.stored != self.queued:
            violations.append(f"{self.queued - self.stored} were not stored")
        if self.order.count != self.queued:
            violations.append(f"{self.queued - self.order.count} were not on NATS")
        return violations

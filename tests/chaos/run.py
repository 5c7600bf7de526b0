"""A run: sends events, injects random faults, and checks at the end that nothing was lost."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import re
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tests.chaos.faults import Fault, stored_ids
from tests.chaos.ledger import Client, Ledger, subscribe
from tests.chaos.target import Target
from tests.waiting import eventually

RECOVERY_SECONDS = 90.0
COMPLETION_SECONDS = 120.0

Stack = TypeVar("Stack", bound=Target)

HANDLED_BY_ASYNCPG = re.compile(
    "^Failed to restore the pool|^Future exception was never retrieved"
    "|^Task exception was never retrieved PoolConnectionHolder.release$"
)
"""Exceptions that asyncpg reports while PostgreSQL is unavailable, and recovers from by itself."""


@dataclass
class Report:
    """The faults of a run, and its results."""

    seed: int
    recoveries: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Seconds from the end of a fault until the stack was healthy, by fault."""
    ledger: Ledger = field(default_factory=Ledger)
    stored: list[str] = field(default_factory=list)
    """Ids of all rows."""
    unhandled: list[str] = field(default_factory=list)
    """Last lines of unhandled exceptions in the services' logs."""

    @property
    def faults(self) -> int:
        return sum(map(len, self.recoveries.values()))

    def violations(self) -> list[str]:
        """All guarantees that were broken."""
        stored = set(self.stored)
        affected = {
            "accepted but not stored": self.ledger.lost_rows(stored),
            "accepted but never published": self.ledger.lost_messages(),
            "stored or published but never sent": self.ledger.never_sent(stored),
        }
        broken = [f"{name}: {len(ids)}, e.g. {min(ids)}" for name, ids in affected.items() if ids]
        if unexpected := self.ledger.responses["500"]:
            broken.append(f"answered 500: {unexpected}")
        if self.unhandled:
            broken.append(f"unhandled exceptions: {len(self.unhandled)}, e.g. {self.unhandled[0]}")
        if len(stored) != len(self.stored):
            broken.append(f"stored more than once: {len(self.stored) - len(stored)}")
        return broken

    def lines(self) -> list[str]:
        """The report as text."""
        rows = [f"{'fault':<32}{'times':>6}{'recovered in, s':>18}{'at most':>9}"]
        rows += [
            f"{name:<32}{len(seconds):>6}{statistics.mean(seconds):>18.1f}{max(seconds):>9.1f}"
            for name, seconds in sorted(self.recoveries.items())
        ]
        ledger = self.ledger
        statuses = sorted(ledger.responses.items())
        responses = ", ".join(f"{status} {count}" for status, count in statuses)
        refused = ", ".join(f"{route} {seconds:.1f} s" for route, seconds in ledger.longest.items())
        repeated = sum(ledger.received.values()) - len(ledger.received)
        rows += [
            "",
            f"faults    {self.faults}, from random seed {self.seed}",
            f"sent      {len(ledger.sent)}; answered {responses}",
            f"503 for   {f'{refused} at most' if refused else 'no request'}",
            f"accepted  {len(ledger.accepted)}",
            f"stored    {len(self.stored)}",
            f"on NATS   {len(ledger.received)}, and {repeated} of them again",
            *(f"BROKEN    {violation}" for violation in self.violations()),
        ]
        return (
            rows if self.violations() else [*rows, "nothing lost, nothing twice, nothing made up"]
        )


async def chaos(
    running: AbstractAsyncContextManager[Stack],
    *,
    seed: int,
    faults: Sequence[Fault[Stack]],
    once: Sequence[Fault[Stack]] = (),
    seconds: float = float("inf"),
    max_faults: int | None = None,
    per_second: float = 40.0,
    log: Callable[[str], None] = lambda _line: None,
) -> Report:
    """Inject faults into a stack under load, and return the report.

    Args:
        running: the stack.
        seed: random seed of the order and durations of the faults.
        faults: faults that are injected equally often.
        once: faults that are injected once, between the others.
        seconds: no fault is started after this time.
        max_faults: maximum number of faults.
        per_second: events sent a second.
        log: called with a line for every fault.
    """
    report, rng = Report(seed), random.Random(seed)  # noqa: S311 - a schedule, no secret
    async with running as stack:
        client = Client(stack, report.ledger, per_second)
        sending = asyncio.create_task(client.run())
        subscribing = asyncio.create_task(subscribe(stack.nats_url, report.ledger))
        try:
            deadline = time.monotonic() + seconds
            for fault in itertools.islice(_schedule(faults, once, rng), max_faults):
                if time.monotonic() >= deadline:
                    break
                log(f"{time.strftime('%H:%M:%S')}  {fault.name}")
                await fault.inject(stack, rng)
                report.recoveries[fault.name].append(await _recovery(stack))
        finally:
            sending.cancel()
            await client.finish()
        await _complete(stack, report)
        subscribing.cancel()
        await asyncio.wait({subscribing})
    return report


def _schedule(
    faults: Sequence[Fault[Stack]], once: Sequence[Fault[Stack]], rng: random.Random
) -> Iterator[Fault[Stack]]:
    remaining = rng.sample(once, len(once))
    while True:
        yield from rng.sample(faults, len(faults))
        if remaining:
            yield remaining.pop()


async def _recovery(stack: Target) -> float:
    started_at = time.monotonic()
    await eventually(stack.is_healthy, RECOVERY_SECONDS)
    return time.monotonic() - started_at


async def _complete(stack: Target, report: Report) -> None:
    """Wait until all accepted events are stored and published, and complete the report."""
    ledger = report.ledger

    async def complete() -> bool:
        report.stored = await stored_ids(stack)
        return not ledger.lost_rows(set(report.stored)) and not ledger.lost_messages()

    # After the timeout, the report lists the missing events.
    with contextlib.suppress(TimeoutError):
        await eventually(complete, COMPLETION_SECONDS)
    for log in sorted((stack.home / "logs").glob("*.log")):
        report.unhandled += exceptions_in(log)


def exceptions_in(log: Path) -> list[str]:
    """Last lines of the unhandled exceptions in a log."""
    exceptions = []
    for line in log.read_text(errors="replace").splitlines():
        if '"exception"' not in line:
            continue
        record = json.loads(line)
        if HANDLED_BY_ASYNCPG.search(f"{record['event']} {record.get('work')}"):
            continue
        last = record["exception"].strip().splitlines()[-1]
        exceptions.append(f"{log.stem}: {record['event']}: {last}")
    return exceptions

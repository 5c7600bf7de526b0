"""A run: load, faults drawn from a random seed, and the reckoning at the end."""

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
from tests.chaos.ledger import Client, Ledger, listen
from tests.chaos.target import Target
from tests.waiting import eventually

RECOVERY_SECONDS = 90.0
RECKONING_SECONDS = 120.0

Stack = TypeVar("Stack", bound=Target)

ASYNCPG_COPES = re.compile(
    "^Failed to restore the pool|^Future exception was never retrieved"
    "|^Task exception was never retrieved PoolConnectionHolder.release$"
)
"""What asyncpg says while PostgreSQL is away; it goes on by itself."""


@dataclass
class Report:
    """What was done, and what came of it."""

    seed: int
    recoveries: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Seconds from the end of a fault until everything was healthy, by fault."""
    ledger: Ledger = field(default_factory=Ledger)
    stored: list[str] = field(default_factory=list)
    unforeseen: list[str] = field(default_factory=list)
    """Last lines of exceptions that nobody handled, from the services' logs."""

    @property
    def faults(self) -> int:
        return sum(map(len, self.recoveries.values()))

    def complaints(self) -> list[str]:
        """Every promise that was broken."""
        stored = set(self.stored)
        found = {
            "accepted but not stored": self.ledger.lost_rows(stored),
            "accepted but never on the bus": self.ledger.lost_messages(),
            "never sent, and yet there": self.ledger.invented(stored),
        }
        broken = [f"{what}: {len(ids)}, e.g. {min(ids)}" for what, ids in found.items() if ids]
        if unexpected := self.ledger.answers["500"]:
            broken.append(f"answered 500: {unexpected}")
        if self.unforeseen:
            broken.append(f"unforeseen: {len(self.unforeseen)}, e.g. {self.unforeseen[0]}")
        if len(stored) != len(self.stored):
            broken.append(f"stored more than once: {len(self.stored) - len(stored)}")
        return broken

    def lines(self) -> list[str]:
        """The report as text."""
        rows = [f"{'fault':<32}{'times':>6}{'recovered in, s':>18}{'at most':>9}"]
        rows += [
            f"{name:<32}{len(took):>6}{statistics.mean(took):>18.1f}{max(took):>9.1f}"
            for name, took in sorted(self.recoveries.items())
        ]
        ledger = self.ledger
        answers = ", ".join(f"{status} {count}" for status, count in sorted(ledger.answers.items()))
        refused = ", ".join(f"{route} {took:.1f} s" for route, took in ledger.longest.items())
        again = sum(ledger.heard.values()) - len(ledger.heard)
        rows += [
            "",
            f"faults    {self.faults}, from random seed {self.seed}",
            f"sent      {len(ledger.sent)}; answered {answers}",
            f"503 for   {refused or 'no moment'} at most",
            f"accepted  {len(ledger.accepted)}",
            f"stored    {len(self.stored)}",
            f"on NATS   {len(ledger.heard)}, and {again} of them again",
            *(f"BROKEN    {complaint}" for complaint in self.complaints()),
        ]
        return (
            rows if self.complaints() else [*rows, "nothing lost, nothing twice, nothing made up"]
        )


async def chaos(
    running: AbstractAsyncContextManager[Stack],
    *,
    seed: int,
    faults: Sequence[Fault[Stack]],
    once: Sequence[Fault[Stack]] = (),
    seconds: float = float("inf"),
    most: int | None = None,
    per_second: float = 40.0,
    say: Callable[[str], None] = lambda _line: None,
) -> Report:
    """Hurt a stack for so many seconds, then count.

    Args:
        running: the stack.
        seed: random seed; decides which fault comes when, and how long it lasts.
        faults: each comes about as often as the others.
        once: each comes once, between the others.
        seconds: no new fault begins after so long.
        most: nor after so many.
        per_second: events sent.
        say: told of every fault.
    """
    report, chance = Report(seed), random.Random(seed)  # noqa: S311 - a schedule, no secret
    async with running as stack:
        client = Client(stack, report.ledger, per_second)
        sending = asyncio.create_task(client.run())
        listening = asyncio.create_task(listen(stack.nats_url, report.ledger))
        try:
            ends = time.monotonic() + seconds
            for fault in itertools.islice(_drawn(faults, once, chance), most):
                if time.monotonic() >= ends:
                    break
                say(f"{time.strftime('%H:%M:%S')}  {fault.name}")
                await fault.strike(stack, chance)
                report.recoveries[fault.name].append(await _recovery(stack))
        finally:
            sending.cancel()
            await client.finish()
        await _reckon(stack, report)
        listening.cancel()
        await asyncio.wait({listening})
    return report


def _drawn(
    faults: Sequence[Fault[Stack]], once: Sequence[Fault[Stack]], chance: random.Random
) -> Iterator[Fault[Stack]]:
    left = chance.sample(once, len(once))
    while True:
        yield from chance.sample(faults, len(faults))
        if left:
            yield left.pop()


async def _recovery(stack: Target) -> float:
    began = time.monotonic()
    await eventually(stack.is_healthy, RECOVERY_SECONDS)
    return time.monotonic() - began


async def _reckon(stack: Target, report: Report) -> None:
    """Give everything that was accepted time to arrive."""
    ledger = report.ledger

    async def complete() -> bool:
        report.stored = await stored_ids(stack)
        return not ledger.lost_rows(set(report.stored)) and not ledger.lost_messages()

    # If time runs out, the report says what is missing.
    with contextlib.suppress(TimeoutError):
        await eventually(complete, RECKONING_SECONDS)
    for log in sorted((stack.home / "logs").glob("*.log")):
        report.unforeseen += exceptions_in(log)


def exceptions_in(log: Path) -> list[str]:
    """Last lines of exceptions that nobody handled, from a log."""
    found = []
    for line in log.read_text(errors="replace").splitlines():
        if '"exception"' not in line:
            continue
        said = json.loads(line)
        if ASYNCPG_COPES.search(f"{said['event']} {said.get('work')}"):
            continue
        last = said["exception"].strip().splitlines()[-1]
        found.append(f"{log.stem}: {said['event']}: {last}")
    return found

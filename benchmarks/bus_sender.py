"""Captures events over the bus: `python -m benchmarks.bus_sender EVENTS PEOPLE`, NATS_URL set.

It prints `ready` and waits for a line before it sends, so that its start is not measured.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop

import hogsend

CONCURRENCY = 64


async def main() -> None:
    """Capture events in several tasks. A task waits until an event is durable before the next."""
    events, people = map(int, sys.argv[1:])
    numbers = iter(range(events))
    async with hogsend.connect() as bus:

        async def capture_events() -> None:
            for number in numbers:
                await bus.capture(
                    "feature.used",
                    f"u_{number % people}",
                    {"plan": "pro", "number": number, "path": "/app/settings"},
                )

        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        await asyncio.gather(*(capture_events() for _ in range(CONCURRENCY)))
        print("sent", flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(main())

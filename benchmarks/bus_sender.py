"""Sends events over the bus: `python -m benchmarks.bus_sender EVENTS PEOPLE`, NATS_URL set.

It prints `ready` and waits for a line before it sends, so that starting up is not measured.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop

import hogsend

TOGETHER = 64


async def main() -> None:
    """Capture, several events at a time; each is durable before the next of its task."""
    events, people = map(int, sys.argv[1:])
    numbers = iter(range(events))
    async with hogsend.connect() as bus:

        async def some() -> None:
            for number in numbers:
                await bus.capture(
                    "feature.used",
                    f"u_{number % people}",
                    {"plan": "pro", "number": number, "path": "/app/settings"},
                )

        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        await asyncio.gather(*(some() for _ in range(TOGETHER)))
        print("sent", flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(main())

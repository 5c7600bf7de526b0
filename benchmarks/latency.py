"""Latency of a webhook, at several fractions of the machine's capacity.

Webhooks are posted at fixed times, whether or not earlier ones have a response, and their latency
counts from these times. So if the receiver stalls, all webhooks that are due meanwhile are late.

A high percentile depends on the other load of the machine at one moment. Therefore each load is
measured several times, in turn, and each figure is the median. The details contain the delay of
this process itself, and the share of CPU time of other processes.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

from nats.aio.msg import Msg

from benchmarks.cost import HOGSEND_PROCESSES, SECRET, hogsend, one_round, warm
from benchmarks.figures import Figure, median, percentile
from benchmarks.other_processes import OtherProcesses
from hogsend.contract.users import User
from hogsend.service import streams
from hogsend.transport.connection import Connection
from tests.servers import Servers
from tests.waiting import eventually

LOADS = (0.10, 0.50, 0.80)
"""Fractions of the capacity, which is measured in the same run."""
SECONDS = 3
ROUNDS = 3
TICK_SECONDS = 0.001
CONNECTIONS = 64
ROUND_TRIPS = 300
PEOPLE = 4_000
PERCENTILES = {"p50": 0.50, "p99": 0.99, "p99.9": 0.999}
GOALS = {0.50: "< 15 answered, < 60 at the subscriber (p99)"}

_NUMBER = re.compile(rb'"latency-(\d+)-(\d+)"')


async def measure(servers: Servers, bus: Connection) -> list[Figure]:
    """Measure the capacity, then the latency at each fraction of it."""
    await streams.reconcile(bus.js, User.INGEST)
    capacity = (await one_round(hogsend(servers, bus), HOGSEND_PROCESSES)).stored
    async with hogsend(servers, bus) as receiver:
        await warm(receiver)
        round_trip = await _round_trip(bus)
        results: dict[float, list[_Paced]] = {load: [] for load in LOADS}
        for _ in range(ROUNDS):
            for load, rounds in results.items():
                run = sum(map(len, results.values()))
                paced = _Paced(receiver.url, run, max(1, round(capacity * load)))
                subscription = await bus.client.subscribe("hogsend.events.>", cb=paced.on_event)
                await bus.flush()
                with OtherProcesses() as others:
                    await paced.run()
                    await eventually(receiver.is_stored, 60)
                    await eventually(paced.is_complete, 10)
                paced.others = others.cpu_share
                await subscription.unsubscribe()
                rounds.append(paced)
    return [_figure(load, rounds, round_trip) for load, rounds in results.items()]


def _figure(load: float, rounds: Sequence[_Paced], round_trip: float) -> Figure:
    details = {
        "webhooks_per_second": float(rounds[0].rate),
        "round_trip_ms": round(round_trip * 1000, 2),
        "own_delay_p99_ms": round(
            median([percentile(paced.own_delays, 0.99) for paced in rounds]) * 1000, 1
        ),
        "cpu_of_others_percent": round(median([paced.others for paced in rounds]) * 100),
    }
    for name, share in PERCENTILES.items():
        response = median([percentile(list(paced.responded.values()), share) for paced in rounds])
        event = median([percentile(list(paced.received.values()), share) for paced in rounds])
        details[f"answered_{name}_ms"] = round(response * 1000, 1)
        details[f"subscriber_{name}_ms"] = round(event * 1000, 1)
        details[f"answered_{name}_round_trips"] = round(response / round_trip, 1)
        details[f"subscriber_{name}_round_trips"] = round(event / round_trip, 1)
    return Figure(
        f"ms from POST to the answer / to `hogsend.events.>`, p99 at {load:.0%} of capacity",
        f"{details['answered_p99_ms']} / {details['subscriber_p99_ms']}",
        GOALS.get(load, ""),
        details,
    )


async def _round_trip(bus: Connection) -> float:
    times = []
    for _ in range(ROUND_TRIPS):
        started = time.perf_counter()
        await bus.flush()
        times.append(time.perf_counter() - started)
    return percentile(times, 0.50)


class _Paced:
    """Posts webhooks at a constant rate, over connections that are kept open."""

    def __init__(self, url: str, run: int, rate: int) -> None:
        self.rate = rate
        self.responded: dict[int, float] = {}
        """Seconds from the due time of each webhook to its response."""
        self.received: dict[int, float] = {}
        """Seconds from the due time of each webhook to its event at the subscriber."""
        self.own_delays: list[float] = []
        """Delays of this process's event loop in seconds, sampled every millisecond."""
        self.others = 0.0
        """See `OtherProcesses.cpu_share`."""
        self._address = urlsplit(url)
        self._run = run
        self._due: list[float] = []
        self._free: asyncio.Queue[_Client] = asyncio.Queue()

    async def run(self) -> None:
        """Post for `SECONDS`, and wait for all responses.

        Raises:
            RuntimeError: a webhook was not accepted.
        """
        clients = [await _Client.connected(self._address.netloc) for _ in range(CONNECTIONS)]
        for client in clients:
            self._free.put_nowait(client)
        started_at = time.perf_counter() + 0.1
        self._due = [started_at + number / self.rate for number in range(self.rate * SECONDS)]
        sampling = asyncio.create_task(self._sample_own_delay())
        async with asyncio.TaskGroup() as posting:
            for number, due in enumerate(self._due):
                if (wait := due - time.perf_counter()) > 0:
                    await asyncio.sleep(wait)
                posting.create_task(self._post(number))
        sampling.cancel()
        for client in clients:
            client.close()

    async def _sample_own_delay(self) -> None:
        while True:
            due = time.perf_counter() + TICK_SECONDS
            await asyncio.sleep(TICK_SECONDS)
            self.own_delays.append(time.perf_counter() - due)

    async def on_event(self, message: Msg) -> None:
        """Record when an event was received."""
        match = _NUMBER.search(message.data)
        if match is not None and int(match[1]) == self._run:
            number = int(match[2])
            self.received.setdefault(number, time.perf_counter() - self._due[number])

    async def is_complete(self) -> bool:
        """Whether all events were received."""
        return len(self.received) == len(self._due)

    async def _post(self, number: int) -> None:
        client = await self._free.get()
        await client.post(_request(self._address.netloc, self._address.path, self._run, number))
        self.responded[number] = time.perf_counter() - self._due[number]
        self._free.put_nowait(client)


class _Client:
    """One connection that posts one webhook at a time, with far less CPU than an HTTP library."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def connected(cls, address: str) -> _Client:
        host, _, port = address.partition(":")
        return cls(*await asyncio.open_connection(host, int(port)))

    async def post(self, request: bytes) -> None:
        self._writer.write(request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        if not head.startswith(b"http/1.1 20"):
            raise RuntimeError(head.decode())
        length = re.search(rb"content-length: (\d+)", head)
        await self._reader.readexactly(int(length[1]) if length else 0)

    def close(self) -> None:
        self._writer.close()


def _request(host: str, path: str, run: int, number: int) -> bytes:
    person = number % PEOPLE
    body = (
        f'{{"event":{{"uuid":"latency-{run}-{number}","event":"$pageview","distinct_id":"u_{person}",'
        '"properties":{"$lib":"web","plan":"free","value":149.9},'
        '"timestamp":"2026-06-01T12:00:00.000Z"},'
        f'"person":{{"id":"0190","properties":{{"email":"u{person}@example.com","plan":"pro"}}}}}}'
    )
    return (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"x-posthog-webhook-secret: {SECRET}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()

"""Response times of the console's views: `python -m benchmarks.views URL KEY_FILE`.

Sends the requests of the console and the command line to a running stack, one after the other, and
prints a table with the median and the 99th percentile of each in milliseconds. `hogsend up` prints
URL and key file of its stack. Nothing is changed. The requests use stored events and contacts, so
first fill the database with realistic data.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from benchmarks.figures import percentile

REQUESTS = 100
"""Requests of each kind."""
DEEP = 20
"""Number of pages to a position deep in a list."""

Query = Mapping[str, str]


class Stack:
    """Client of a running stack, with an admin or read key."""

    def __init__(self, http: httpx.AsyncClient, requests: int) -> None:
        self._http = http
        self._requests = requests

    async def get(self, path: str, query: Query | None = None) -> Any:
        """Send a request and return the decoded response."""
        return (await self._timed(path, query))[0]

    async def _timed(self, path: str, query: Query | None) -> tuple[Any, float]:
        """The decoded response, and its time in milliseconds."""
        while True:
            started = time.perf_counter()
            response = await self._http.get(path, params=query)
            milliseconds = (time.perf_counter() - started) * 1000
            if response.status_code != httpx.codes.TOO_MANY_REQUESTS:
                response.raise_for_status()
                return response.json(), milliseconds
            await asyncio.sleep(float(response.headers["Retry-After"]))

    async def measure(self, name: str, path: str, queries: Sequence[Query]) -> None:
        """Send all queries in turn, and print a row of the table."""
        times = [
            (await self._timed(path, queries[number % len(queries)]))[1]
            for number in range(self._requests)
        ]
        p50, p99 = percentile(times, 0.5), percentile(times, 0.99)
        print(f"| {name} | {p50:.1f} | {p99:.1f} |", flush=True)

    async def deep(self, path: str, query: Query) -> Query:
        """Page through a list, and return the query of page number `DEEP`."""
        for _ in range(DEEP):
            page = await self.get(path, query)
            if not page["nextBefore"]:
                break
            query = {**query, "before": page["nextBefore"]}
        return query


def _each(items: list[dict[str, Any]], **fields: str) -> list[Query]:
    """A query for each item. `fields` maps query parameters to fields of the item."""
    return [{parameter: item[field] for parameter, field in fields.items()} for item in items]


async def measure(url: str, key: str, requests: int) -> None:
    """Measure all views, and print the table."""
    events, contacts, audit = "/v1/admin/events", "/v1/admin/contacts", "/v1/admin/audit"
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as http:
        stack = Stack(http, requests)
        latest = await stack.get(events, {"limit": "100"})
        people = await stack.get(contacts, {"order": "created", "limit": "100"})
        entries = (await stack.get(audit, {"limit": "100"}))["entries"]
        stored, records = latest["events"], people["contacts"]
        if not stored or not records or not entries:
            raise SystemExit("store some events, and change something with the admin key, first")
        print(f"\nAbout {latest['total']:,} events and {people['total']:,} contacts.\n")
        print("| view | p50, ms | p99, ms |\n|---|---|---|")
        await stack.measure("overview: health", "/v1/health", [{}])
        await stack.measure("overview: rates", "/v1/admin/activity", [{}])
        await stack.measure("overview: capabilities", "/v1/admin/capabilities", [{}])
        await stack.measure("counts of everything", "/v1/admin/metrics/overview", [{}])
        await stack.measure("events", events, [{}])
        await stack.measure("events, 20 pages back", events, [await stack.deep(events, {})])
        for field in ("event", "userId", "source", "id"):
            await stack.measure(f"events by {field}", events, _each(stored, **{field: field}))
        several = _each(stored, event="event", source="source")
        await stack.measure("events by event and source", events, several)
        await stack.measure(
            "events of an unknown name", events, [{"event": "nothing has this name"}]
        )
        of_one = _each(stored, source="source", id="id", event="event", userId="userId")
        await stack.measure("trace of an event", f"{events}/trace", of_one)
        newest = {"order": "created"}
        await stack.measure("contacts", contacts, [newest])
        old = await stack.deep(contacts, newest)
        await stack.measure("contacts, 20 pages back", contacts, [old])
        await stack.measure("contacts seen last", contacts, [{}])
        deep = {"offset": str(DEEP * 50)}
        await stack.measure("contacts seen last, 20 pages back", contacts, [deep])
        await stack.measure("a contact by user id", contacts, _each(records, key="contactKey"))
        with_email = [record for record in records if record["email"]] or records
        by_email = [{"key": record["email"] or record["id"]} for record in with_email]
        await stack.measure("a contact by email", contacts, by_email)
        prefixes = [{**newest, "search": query["key"][:6]} for query in by_email]
        await stack.measure("contacts, searched", contacts, prefixes)
        letters = [{"search": query["key"][:1]} for query in by_email]
        await stack.measure("contacts, searched by one letter", contacts, letters)
        unknown = [{**newest, "search": "not.stored@example.org"}]
        await stack.measure("contacts, searched in vain", contacts, unknown)
        timelines = f"{contacts}/{records[0]['id']}/timeline"
        await stack.measure("timeline of a contact", timelines, [{}])
        await stack.measure("dead letters", "/v1/admin/deadletters", [{}])
        await stack.measure("destinations", "/v1/admin/webhooks", [{}])
        for destination in (await stack.get("/v1/admin/webhooks"))["webhooks"][:1]:
            history = f"/v1/admin/webhooks/{destination['id']}/deliveries"
            await stack.measure("deliveries of a destination", history, [{}])
        await stack.measure("audit", audit, [{}])
        for field in ("action", "actor"):
            await stack.measure(f"audit by {field}", audit, _each(entries, **{field: field}))


def main() -> int:
    """Parse the arguments, and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("key_file", type=Path)
    parser.add_argument("--looks", type=int, default=REQUESTS, help="requests of each kind")
    arguments = parser.parse_args()
    key = arguments.key_file.read_text().strip()
    asyncio.run(measure(arguments.url, key, arguments.looks))
    return 0


if __name__ == "__main__":
    sys.exit(main())

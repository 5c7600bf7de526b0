"""How long the console's views take: `python -m benchmarks.views URL KEY_FILE`.

Asks a running stack, such as the one that `hogsend up` says the address and the key file of, what
the console and the command ask, one request after the other, and prints a table: milliseconds of
each, the median and the 99th percentile. It changes nothing. What it asks for is drawn from what
is stored, so fill the database with something like what you expect.
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

LOOKS = 100
"""Requests of each kind."""
DEEP = 20
"""Pages that are turned to be deep in a list."""

Query = Mapping[str, str]


class Stack:
    """A running stack, asked with an admin or read key."""

    def __init__(self, http: httpx.AsyncClient, looks: int) -> None:
        self._http = http
        self._looks = looks

    async def ask(self, path: str, query: Query | None = None) -> Any:
        """Return an answer's document."""
        return (await self._answer(path, query))[0]

    async def _answer(self, path: str, query: Query | None) -> tuple[Any, float]:
        """The document, and how long it took in milliseconds."""
        while True:
            begun = time.perf_counter()
            answer = await self._http.get(path, params=query)
            taken = (time.perf_counter() - begun) * 1000
            if answer.status_code != httpx.codes.TOO_MANY_REQUESTS:
                answer.raise_for_status()
                return answer.json(), taken
            await asyncio.sleep(float(answer.headers["Retry-After"]))

    async def measure(self, name: str, path: str, queries: Sequence[Query]) -> None:
        """Ask for each query in turn, and print a row of the table."""
        taken = [
            (await self._answer(path, queries[number % len(queries)]))[1]
            for number in range(self._looks)
        ]
        p50, p99 = percentile(taken, 0.5), percentile(taken, 0.99)
        print(f"| {name} | {p50:.1f} | {p99:.1f} |", flush=True)

    async def deep(self, path: str, query: Query) -> Query:
        """Turn pages, and return the query of the one that is reached."""
        for _ in range(DEEP):
            page = await self.ask(path, query)
            if not page["nextBefore"]:
                break
            query = {**query, "before": page["nextBefore"]}
        return query


def _each(things: list[dict[str, Any]], **names: str) -> list[Query]:
    """A query for each thing: parameters, and the fields of the thing that they are."""
    return [{parameter: thing[field] for parameter, field in names.items()} for thing in things]


async def measure(url: str, key: str, looks: int) -> None:
    """Ask for everything, and print the table."""
    events, contacts, audit = "/v1/admin/events", "/v1/admin/contacts", "/v1/admin/audit"
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as http:
        stack = Stack(http, looks)
        latest = await stack.ask(events, {"limit": "100"})
        people = await stack.ask(contacts, {"order": "created", "limit": "100"})
        entries = (await stack.ask(audit, {"limit": "100"}))["entries"]
        stored, known = latest["events"], people["contacts"]
        if not stored or not known or not entries:
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
        await stack.measure("the way of an event", f"{events}/trace", of_one)
        newest = {"order": "created"}
        await stack.measure("contacts", contacts, [newest])
        old = await stack.deep(contacts, newest)
        await stack.measure("contacts, 20 pages back", contacts, [old])
        await stack.measure("contacts seen last", contacts, [{}])
        deep = {"offset": str(DEEP * 50)}
        await stack.measure("contacts seen last, 20 pages back", contacts, [deep])
        await stack.measure("a contact by user id", contacts, _each(known, key="contactKey"))
        mails = [one for one in known if one["email"]] or known
        by_mail = [{"key": one["email"] or one["id"]} for one in mails]
        await stack.measure("a contact by email", contacts, by_mail)
        begun = [{**newest, "search": query["key"][:6]} for query in by_mail]
        await stack.measure("contacts, searched", contacts, begun)
        first = [{"search": query["key"][:1]} for query in by_mail]
        await stack.measure("contacts, searched by one letter", contacts, first)
        unknown = [{**newest, "search": "not.stored@example.org"}]
        await stack.measure("contacts, searched in vain", contacts, unknown)
        timelines = f"{contacts}/{known[0]['id']}/timeline"
        await stack.measure("timeline of a contact", timelines, [{}])
        await stack.measure("dead letters", "/v1/admin/deadletters", [{}])
        await stack.measure("destinations", "/v1/admin/webhooks", [{}])
        for one in (await stack.ask("/v1/admin/webhooks"))["webhooks"][:1]:
            history = f"/v1/admin/webhooks/{one['id']}/deliveries"
            await stack.measure("deliveries of a destination", history, [{}])
        await stack.measure("audit", audit, [{}])
        for field in ("action", "actor"):
            await stack.measure(f"audit by {field}", audit, _each(entries, **{field: field}))


def main() -> int:
    """Read where the stack is, and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("key_file", type=Path)
    parser.add_argument("--looks", type=int, default=LOOKS)
    given = parser.parse_args()
    asyncio.run(measure(given.url, given.key_file.read_text().strip(), given.looks))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Bytes that an event takes in JetStream and in PostgreSQL: `python -m benchmarks.footprint`.

Bytes hardly depend on the machine, so `docs/scale.md` is based on them. Two kinds of events are
measured, each in a new database: the short one of the other benchmarks, and a page view with the
properties of posthog-js. `--index COLUMN` measures the size and PostgreSQL's CPU time of another
index on the events, in turn with a table without it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import asyncpg

from benchmarks import ingest
from benchmarks.ending import run_to_end
from benchmarks.figures import median
from benchmarks.ids import new_id
from benchmarks.processes import cpu_seconds
from benchmarks.screen import LOG, quiet
from hogsend.contract import subjects
from hogsend.contract.headers import MESSAGE_ID, RECEIVED_AT, format_time
from hogsend.contract.streams import StreamName
from hogsend.contract.users import User
from hogsend.service import streams
from hogsend.service.database import Database
from hogsend.transport.connection import Connection
from services.ingest.app import MIGRATIONS
from services.ingest.settings import IngestSettings
from tests.servers import Servers, running_servers

EVENTS = 20_000
PEOPLE = 5_000
IN_FLIGHT = 500
ROUNDS = 3
"""Rounds with and without the index, if an index is measured."""

_BROWSER: Mapping[str, object] = {
    "$os": "Mac OS X",
    "$os_version": "10.15.7",
    "$browser": "Chrome",
    "$browser_version": 141,
    "$browser_language": "en-GB",
    "$device_type": "Desktop",
    "$timezone": "Europe/London",
    "$current_url": "https://app.example.com/projects/42/dashboards/7?tab=overview",
    "$host": "app.example.com",
    "$pathname": "/projects/42/dashboards/7",
    "$raw_user_agent": "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 "
    "(KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
    "$screen_height": 1117,
    "$screen_width": 1728,
    "$viewport_height": 963,
    "$viewport_width": 1728,
    "$lib": "web",
    "$lib_version": "1.275.1",
    "$device_id": "0199a1b2-c3d4-7e5f-8a6b-7c8d9e0f1a2b",
    "$session_id": "0199a1b2-c3d4-7e5f-8a6b-7c8d9e0f1a2c",
    "$window_id": "0199a1b2-c3d4-7e5f-8a6b-7c8d9e0f1a2d",
    "$pageview_id": "0199a1b2-c3d4-7e5f-8a6b-7c8d9e0f1a2e",
    "$referrer": "https://www.example.org/",
    "$referring_domain": "www.example.org",
    "$is_identified": True,
    "$process_person_profile": True,
    "$geoip_city_name": "London",
    "$geoip_country_code": "GB",
    "$geoip_continent_code": "EU",
    "$geoip_time_zone": "Europe/London",
    "title": "Overview",
}


def _webhook(number: int, properties: Mapping[str, object]) -> bytes:
    person = number % PEOPLE
    now = datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")
    event = {
        "event": "$pageview",
        "distinct_id": f"u_{person}",
        "properties": {**properties, "number": number},
        # Different times: PostgreSQL would deduplicate index entries of the same time.
        "timestamp": f"{now}Z",
    }
    traits = {"email": f"u{person}@example.com", "plan": "pro", "$geoip_country_code": "GB"}
    return json.dumps({"event": event, "person": {"properties": traits}}).encode()


def _short(number: int) -> bytes:
    return _webhook(number, {"$lib": "web", "plan": "free", "value": 149.9})


def _page_view(number: int) -> bytes:
    return _webhook(number, _BROWSER)


SAMPLES: Mapping[str, Callable[[int], bytes]] = {"short": _short, "page view": _page_view}

# Only partitions with events: those created in advance are empty.
_TABLES = """
SELECT sum(pg_table_size(relid))::float8 AS "row",
    sum(pg_indexes_size(relid))::float8 AS "its indexes",
    pg_table_size('event_keys')::float8 AS "its key",
    pg_indexes_size('event_keys')::float8 AS "the key's index"
FROM pg_partition_tree('events') WHERE isleaf AND pg_relation_size(relid) > 0
"""
_PARTITION = "SELECT tableoid::regclass::text FROM events LIMIT 1"
_PEOPLE = """
SELECT (pg_total_relation_size('contacts') + pg_total_relation_size('contact_keys'))::float8
"""
_WAL = "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"


class Run(NamedTuple):
    """The cost of storing one sample, for each event."""

    sizes: dict[str, float]
    """Bytes, by place."""
    postgres_us: float
    """CPU microseconds of PostgreSQL."""


async def run(
    servers: Servers, operator: Connection, body: Callable[[int], bytes], index: str | None = None
) -> Run:
    """Store one sample in a new database."""
    for stream in (StreamName.WEBHOOKS, StreamName.EVENTS):
        await operator.js.purge_stream(stream)
    async with servers.fresh_database() as url:
        database = Database(url, "ingest", MIGRATIONS, pool_size=1)
        await database.connect()
        await database.close()
        admin = await asyncpg.connect(url, server_settings={"search_path": "ingest"})
        if index is not None:
            await admin.execute(f"CREATE INDEX measured ON events ({index})")
        # In a new database all pages are new, so no full-page images are logged. In production they
        # add one image for each changed page and checkpoint.
        await admin.execute("CHECKPOINT")
        await _publish(operator, body)
        waiting = await _bytes_of(operator, StreamName.WEBHOOKS)
        wal, spent = await admin.fetchval(_WAL), cpu_seconds("postgres")
        await ingest.store(servers, url, operator, IngestSettings().ingest_batch_size)
        wal, spent = await admin.fetchval(_WAL) - wal, cpu_seconds("postgres") - spent
        await admin.execute("VACUUM events, event_keys, contacts, contact_keys")
        sizes = {
            "webhook": len(body(0)),
            "in WEBHOOKS": waiting,
            "in EVENTS": await _bytes_of(operator, StreamName.EVENTS),
            **await _divided(admin, _TABLES),
            "write-ahead log": float(wal) / EVENTS,
            "of that the event": await _wal_again(
                admin, "events", await admin.fetchval(_PARTITION)
            ),
            "of that its key": await _wal_again(admin, "event_keys", "event_keys"),
            "a person": await admin.fetchval(_PEOPLE) / PEOPLE,
        }
        await admin.close()
    return Run(sizes, spent / EVENTS * 1e6)


async def _wal_again(admin: Any, table: str, like: str) -> float:
    """Bytes of log for copying a table's rows to a new table with the indexes of `like`."""
    await admin.execute(f"CREATE TABLE again (LIKE {like} INCLUDING ALL)")
    before = await admin.fetchval(_WAL)
    await admin.execute(f"INSERT INTO again SELECT * FROM {table}")  # noqa: S608 - our own names
    written = await admin.fetchval(_WAL) - before
    await admin.execute("DROP TABLE again")
    return float(written) / EVENTS


async def _publish(operator: Connection, body: Callable[[int], bytes]) -> None:
    for start in range(0, EVENTS, IN_FLIGHT):
        await asyncio.gather(
            *(
                operator.js.publish(
                    subjects.webhook("posthog"),
                    body(number),
                    headers={MESSAGE_ID: new_id(), RECEIVED_AT: format_time(datetime.now(UTC))},
                )
                for number in range(start, start + IN_FLIGHT)
            )
        )


async def _bytes_of(operator: Connection, stream: StreamName) -> float:
    state = (await operator.js.stream_info(stream)).state
    return state.bytes / state.messages


async def _divided(admin: Any, query: str) -> dict[str, float]:
    return {name: value / EVENTS for name, value in (await admin.fetchrow(query)).items()}


async def measure(index: str | None, progress: Callable[[str], object]) -> str:
    """Measure, and return the results as a Markdown table."""
    async with running_servers() as servers:
        admin = await asyncpg.connect(servers.postgres_url)
        await admin.execute("ALTER SYSTEM SET full_page_writes = on")
        await admin.execute("SELECT pg_reload_conf()")
        await admin.close()
        operator = Connection(User.OPERATOR, servers.nats_url(User.OPERATOR))
        await operator.open()
        await streams.reconcile(operator.js, User.INGEST)
        try:
            if index is not None:
                return await _with_and_without(servers, operator, index, progress)
            sizes = {}
            for name, body in SAMPLES.items():
                progress(f"{name} ...\n")
                sizes[name] = (await run(servers, operator, body)).sizes
            return _table(sizes)
        finally:
            await operator.close()


async def _with_and_without(
    servers: Servers, operator: Connection, index: str, progress: Callable[[str], object]
) -> str:
    without_index, with_index = [], []
    for number in range(ROUNDS):
        progress(f"round {number + 1} of {ROUNDS} ...\n")
        without_index.append(await run(servers, operator, _page_view))
        with_index.append(await run(servers, operator, _page_view, index))
    rows = [
        (
            "PostgreSQL, us of CPU",
            [run.postgres_us for run in without_index],
            [run.postgres_us for run in with_index],
        )
    ]
    rows += [
        (
            f"{name}, bytes",
            [run.sizes[name] for run in without_index],
            [run.sizes[name] for run in with_index],
        )
        for name in ("its indexes", "write-ahead log")
    ]
    lines = [f"| an event | without | with ({index}) | ratio |", "|---|---|---|---|"]
    for name, before, after in rows:
        ratio = median([value / base for value, base in zip(after, before, strict=True)])
        lines.append(f"| {name} | {median(before):.0f} | {median(after):.0f} | {ratio:.2f} |")
    return "\n".join(lines)


def _table(sizes: Mapping[str, Mapping[str, float]]) -> str:
    names = list(sizes)
    lines = [f"| bytes an event | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for row in sizes[names[0]]:
        cells = " | ".join(f"{sizes[name][row]:,.0f}" for name in names)
        lines.append(f"| {row} | {cells} |")
    return "\n".join(lines)


def main() -> int:
    """Parse the arguments, measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--index", metavar="COLUMN", help="measure another index on the events")
    arguments = parser.parse_args()
    with quiet(LOG) as screen:
        table = run_to_end(measure(arguments.index, screen.write))
    print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())

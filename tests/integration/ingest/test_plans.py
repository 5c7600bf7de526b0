"""Plans that PostgreSQL makes while tables are empty look up rows by index.

A connection caches its plans. A plan from the time when tables were empty is used until PostgreSQL
analyzes the tables again, and by then they may have a million rows.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hogsend.service.database import Database
from services.ingest.app import MIGRATIONS
from services.ingest.contacts import merges, storage
from services.ingest.event_table import event_keys
from services.ingest.event_table.upkeep import EventTable
from services.ingest.export import exporter
from tests.query_plans import nodes


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, "ingest", MIGRATIONS, pool_size=1)
    await database.connect()
    yield database
    await database.close()


@pytest.mark.parametrize(
    "query",
    [
        event_keys._queries.received_at_of,
        event_keys._queries.stored_events,
        merges._queries.details,
        exporter._queries.keys,
        storage._queries.owners,
        storage._queries.lock_contacts,
        storage._queries.mark_seen,
    ],
    ids=[
        "keys of stored events",
        "stored events",
        "keys of contacts",
        "keys of a contact",
        "owners",
        "locked contacts",
        "contacts seen again",
    ],
)
async def test_a_plan_that_was_made_for_empty_tables_scans_no_table_sequentially(
    database: Database, query: Any
) -> None:
    await EventTable(database).maintain()
    async with database.acquire() as connection:
        for table in ("events", "event_keys", "contacts", "contact_keys", "erased_keys"):
            await connection.execute(f"VACUUM ANALYZE {table}")
        await connection.execute(f"PREPARE kept AS {query.sql}")
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        arguments = ", ".join(["NULL"] * len(set(re.findall(r"\$\d+", query.sql))))
        plan = json.loads(
            await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE kept ({arguments})")
        )
    table_nodes = [node for node in nodes(plan[0]["Plan"]) if "Relation Name" in node]
    read = [node for node in table_nodes if node["Node Type"] != "ModifyTable"]
    assert read
    assert {node["Node Type"] for node in read} <= {
        "Index Scan",
        "Index Only Scan",
        "Bitmap Heap Scan",
        "Tid Scan",
    }
    for node in read:
        assert "Index Cond" in node or node["Node Type"] in {"Bitmap Heap Scan", "Tid Scan"}
        # A filter with ANY would mean that the index is used by only some of its columns.
        assert "ANY" not in node.get("Filter", "")


async def test_no_query_uses_parallel_workers(database: Database) -> None:
    async with database.acquire() as connection:
        await connection.execute(MANY)
        await connection.execute("ANALYZE contacts, contact_keys")
        # Make parallel plans seem as cheap as possible.
        for setting in ("parallel_setup_cost", "parallel_tuple_cost", *SIZES):
            await connection.execute(f"SET {setting} = 0")
        query = "EXPLAIN (FORMAT JSON) SELECT id FROM contacts WHERE source <> 'v'"
        plan = json.loads(await connection.fetchval(query))
        types = {node["Node Type"] for node in nodes(plan[0]["Plan"])}
        assert not types & {"Gather", "Gather Merge"}
        await connection.execute("SET max_parallel_workers_per_gather = 2")
        plan = json.loads(await connection.fetchval(query))
        assert "Gather" in {node["Node Type"] for node in nodes(plan[0]["Plan"])}


SIZES = ("min_parallel_table_scan_size", "min_parallel_index_scan_size")
MANY = """
WITH filled AS (
    INSERT INTO contacts (id, source, properties, versions, created_at, first_seen_at, last_seen_at)
    SELECT gen_random_uuid(), 'posthog', '{}', '{}', now(), now(), now()
    FROM generate_series(1, 5000) RETURNING id
)
INSERT INTO contact_keys (kind, digest, value, contact_id)
SELECT 'external', sha256(convert_to(row_number() OVER ()::text, 'UTF8')), '', id FROM filled
"""

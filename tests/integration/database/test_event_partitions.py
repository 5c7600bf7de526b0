"""Events in partitions by time of receipt: partitions are created, searched and dropped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import msgspec
import pytest
from structlog.testing import capture_logs

from hogsend.contract.errors import Unavailable
from hogsend.contract.events import ListEvents
from hogsend.service import metrics, retention
from hogsend.service.database import Database
from services.ingest.app import MIGRATIONS
from services.ingest.erasure.jobs import ErasureJobs, Job
from services.ingest.erasure.person import Person
from services.ingest.event_table import partitions, upkeep
from services.ingest.event_table.event_keys import digest_of
from services.ingest.event_table.partitions import Partition, TablePartitions, list_partitions
from services.ingest.event_table.upkeep import EventTable
from services.ingest.events.listing import EventList
from services.ingest.events.outcome import Saved, Status
from services.ingest.events.store import EventStore
from services.ingest.incoming_event import IncomingEvent
from tests.event_rows import statuses
from tests.integration.database.test_retention import clock_ahead
from tests.pgbouncer import PROGRAM, pgbouncer
from tests.postgres_locks import waiting_for_a_lock
from tests.unit.ingest import fakes
from tests.waiting import eventually

NOW = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
NAMES = "SELECT relid::regclass::text FROM pg_partition_tree('events') WHERE isleaf ORDER BY 1"


def incoming(id: str, received_at: datetime = NOW, **fields: Any) -> IncomingEvent:
    times = {"occurred_at": received_at, "received_at": received_at}
    return msgspec.structs.replace(fakes.incoming(id, "e"), **times, **fields)


def days_ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, "ingest", MIGRATIONS, pool_size=4)
    await database.connect()
    yield database
    await database.close()


@pytest.fixture
async def rows(database: Database, database_url: str) -> AsyncIterator[Any]:
    """A separate connection, outside of the service's pool."""
    connection = await asyncpg.connect(database_url, server_settings={"search_path": "ingest"})
    yield connection
    await connection.close()


def store_of(database: Database, days: int = 0) -> EventStore:
    return EventStore(database, EventTable(database, retention_days=days))


async def names(rows: Any) -> list[str]:
    return [name for (name,) in await rows.fetch(NAMES)]


async def test_an_event_of_any_time_has_a_partition(database: Database, rows: Any) -> None:
    store = store_of(database)
    times = [days_ago(400), NOW, days_ago(-40), datetime(1999, 12, 31, tzinfo=UTC)]
    events = [incoming(str(number), moment) for number, moment in enumerate(times)]
    assert statuses(await store.save(events)) == [Status.STORED] * 4
    assert len(await names(rows)) == 4
    assert statuses(await store.save(events)) == [Status.REDELIVERED] * 4
    page = await EventList(database).page(ListEvents())
    assert [event.received_at for event in page.events] == sorted(times, reverse=True)
    for partition in await list_partitions(rows):
        assert partition.ends - partition.begins == timedelta(days=30)


async def test_partitions_are_listed_once_for_all_events_of_a_batch(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    listings = []

    async def count(connection: Any) -> list[Partition]:
        listings.append(connection)
        return await list_partitions(connection)

    monkeypatch.setattr(partitions, "list_partitions", count)
    moments = [days_ago(number / 1000) for number in range(100)]
    await TablePartitions(database).ensure_partitions(moments)
    assert len(listings) == 2


async def test_replicas_create_each_partition_once(database: Database, rows: Any) -> None:
    replicas = [store_of(database) for _ in range(4)]
    batches = [
        [incoming(f"{n} {days}", days_ago(days)) for days in range(0, 90, 10)] for n in range(4)
    ]
    for outcomes in await asyncio.gather(
        *(store.save(batch) for store, batch in zip(replicas, batches, strict=True))
    ):
        assert statuses(outcomes) == [Status.STORED] * 9
    assert len(await names(rows)) == len(set(await names(rows))) <= 5
    assert await rows.fetchval("SELECT count(*) FROM events") == 36


async def test_new_partitions_adjoin_partitions_of_another_width(
    database: Database, rows: Any
) -> None:
    await TablePartitions(database).make_ahead()
    (current, following) = await list_partitions(rows)
    now = datetime.now(UTC)
    assert current.contains(now)
    assert following.begins == current.ends
    # With retention, a partition covers a day instead of a month.
    daily = TablePartitions(database, retention_days=7)
    await daily.ensure_partitions(
        [following.ends + timedelta(days=3), current.begins - timedelta(hours=1)]
    )
    before, *_, after = await list_partitions(rows)
    assert before.ends == current.begins
    assert before.ends - before.begins == after.ends - after.begins == timedelta(days=1)
    # Without retention again, the new month ends where the partition of a day starts.
    await TablePartitions(database).ensure_partitions([following.ends + timedelta(hours=1)])
    *_, month, last = await list_partitions(rows)
    assert (month.begins, month.ends) == (following.ends, after.begins)
    assert last == after


async def test_new_partitions_inherit_an_operators_constraint_and_index(
    database: Database, rows: Any
) -> None:
    await rows.execute("ALTER TABLE events ADD CHECK (event <> 'refused')")
    await rows.execute("CREATE INDEX ON events (correlation_id)")
    store = store_of(database)
    accepted, refused = await store.save([incoming("1"), incoming("2", name="refused")])
    assert isinstance(accepted, Saved)
    assert not isinstance(refused, Saved)


async def test_an_event_is_stored_after_its_partition_could_be_created(
    database: Database, rows: Any
) -> None:
    store = store_of(database)
    await rows.execute("CREATE VIEW conflicting_view AS SELECT 1")
    begins = NOW - (NOW - datetime(1970, 1, 1, tzinfo=UTC)) % timedelta(days=30)
    name = f"events_{begins:%Y%m%d}"
    await rows.execute(f"ALTER VIEW conflicting_view RENAME TO {name}")
    with pytest.raises(Unavailable, match="DuplicateTable"):
        await store.save([incoming("1")])
    await rows.execute(f"DROP VIEW {name}")
    assert statuses(await store.save([incoming("1")])) == [Status.STORED]


async def test_old_partitions_are_dropped_and_then_their_keys_are_deleted(
    database: Database, rows: Any
) -> None:
    store = store_of(database, days=7)
    events = [incoming(str(days), days_ago(days)) for days in range(12)]
    await store.save(events)
    await rows.execute("ANALYZE events")
    table = EventTable(database, retention_days=7)
    before = metrics.RETENTION_DELETED.labels("events")._value.get()
    with capture_logs() as logs:
        assert await table.maintain()
    remaining = {int(id) for (id,) in await rows.fetch("SELECT id FROM events")}
    assert set(range(7)) <= remaining <= set(range(9))
    dropped = [line for line in logs if line["event"] == "old events dropped"]
    assert len(dropped) == 12 - len(remaining)
    assert all((line["rows"], line["days"]) == (1, 7) for line in dropped)
    deleted = metrics.RETENTION_DELETED.labels("events")._value.get() - before
    assert deleted == len(dropped)
    # The key of an event is kept at least as long as the event.
    _, keys = table.retentions()
    assert await keys.sweep() == 12 - len(remaining)
    again = await store.save([event for event in events if int(event.ref.id) in remaining])
    assert statuses(again) == [Status.REDELIVERED] * len(remaining)


@pytest.mark.parametrize("is_backfilled", [False, True])
async def test_an_event_whose_partition_was_dropped_is_stored_again_before_its_key_is_deleted(
    database: Database, rows: Any, is_backfilled: bool
) -> None:
    table = EventTable(database, retention_days=7)
    store = EventStore(database, table)
    await store.save([incoming("1", days_ago(20), backfilled=is_backfilled), incoming("2")])
    await table.maintain()
    assert await rows.fetchval("SELECT array_agg(id) FROM events") == ["2"]
    assert await rows.fetchval("SELECT count(*) FROM event_keys") == 2
    again = [incoming("1"), incoming("1", days_ago(1)), incoming("2", days_ago(1))]
    assert statuses(await store.save(again)) == [Status.STORED, Status.KNOWN, Status.KNOWN]
    assert await rows.fetchval("SELECT count(*) FROM event_keys WHERE received_at = $1", NOW) == 2


async def test_a_key_is_kept_as_long_as_its_partition_of_another_width(
    database: Database, rows: Any
) -> None:
    events = [incoming(str(days), days_ago(days)) for days in range(0, 60, 5)]
    await store_of(database).save(events)
    # The existing partitions cover a month each, new ones cover a day.
    table = EventTable(database, retention_days=7)
    await table.maintain()
    _, keys = table.retentions()
    await keys.sweep()
    remaining = {id for (id,) in await rows.fetch("SELECT id FROM events")}
    assert len(remaining) > 3
    again = await EventStore(database, table).save(
        [event for event in events if event.ref.id in remaining]
    )
    assert statuses(again) == [Status.REDELIVERED] * len(remaining)
    assert await rows.fetchval("SELECT count(*) FROM event_keys") == len(remaining)


async def test_no_events_are_dropped_by_default(database: Database, rows: Any) -> None:
    await store_of(database).save([incoming("old", days_ago(4000))])
    await EventTable(database).maintain()
    assert await rows.fetchval("SELECT count(*) FROM events") == 1


async def test_storing_events_does_not_wait_for_a_blocked_drop(
    database: Database, rows: Any
) -> None:
    store = store_of(database, days=7)
    await store.save([incoming("old", days_ago(20)), incoming("1")])
    table = EventTable(database, retention_days=7)
    async with rows.transaction():
        await rows.fetch("SELECT FROM events")
        with pytest.raises(Unavailable):
            await table.maintain()
        assert statuses(await store.save([incoming("2")])) == [Status.STORED]
    assert await table.maintain()
    assert await rows.fetchval("SELECT count(*) FROM events WHERE id = 'old'") == 0


async def test_a_live_event_moves_out_of_the_partition_of_its_backfilled_copy(
    database: Database, rows: Any
) -> None:
    store = store_of(database)
    await store.save([incoming("1", days_ago(90), backfilled=True)])
    live = incoming("1")
    assert statuses(await store.save([live])) == [Status.REDELIVERED]
    row = await rows.fetchrow("SELECT tableoid, received_at, backfilled FROM events")
    assert (row["received_at"], row["backfilled"]) == (NOW, False)
    (partition,) = [p for p in await list_partitions(rows) if p.contains(NOW)]
    assert row["tableoid"] == partition.relation
    assert await rows.fetchval("SELECT received_at FROM event_keys") == NOW
    assert statuses(await store.save([live, incoming("1", days_ago(1))])) == [
        Status.REDELIVERED,
        Status.KNOWN,
    ]


def erasure_of(contact_id: UUID) -> Job:
    return Job(
        id=uuid4(),
        contact_id=contact_id,
        contact_ids=[contact_id],
        person=Person(frozenset(), frozenset()),
        requested_at=NOW,
        is_swept=False,
    )


async def test_a_person_is_erased_from_every_partition_with_the_keys(
    database: Database, rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.ingest.erasure.jobs.EVENTS_AT_ONCE", 2)
    store = store_of(database)
    await store.save([incoming(str(n), days_ago(n * 20)) for n in range(10)])
    await store.save([incoming(f"ben {n}", days_ago(n * 20), user_id="ben") for n in range(3)])
    contact = await rows.fetchval("SELECT contact_id FROM events WHERE user_id = 'anna' LIMIT 1")
    assert await ErasureJobs(database).delete_events(erasure_of(contact)) == 10
    assert await rows.fetchval("SELECT array_agg(DISTINCT user_id) FROM events") == ["ben"]
    remaining = {bytes(digest) for (digest,) in await rows.fetch("SELECT digest FROM event_keys")}
    assert remaining == {digest_of(incoming(f"ben {n}", user_id="ben").key) for n in range(3)}


async def test_pages_across_partitions_return_every_event_once_in_order(
    database: Database, rows: Any
) -> None:
    store = store_of(database)
    for chunk in range(6):
        await store.save(
            [incoming(f"{chunk} {n}", days_ago(chunk * 30 + n / 10)) for n in range(200)]
        )
    await rows.execute("ANALYZE events")
    seen: list[str] = []
    before: str | None = None
    while True:
        page = await EventList(database).page(ListEvents(limit=100, before=before))
        seen += [event.id for event in page.events]
        if (before := page.next_before) is None:
            break
    assert len(seen) == len(set(seen)) == 1200
    moments = {row["id"]: row["occurred_at"] for row in await rows.fetch("SELECT * FROM events")}
    assert [moments[id] for id in seen] == sorted(moments.values(), reverse=True)


async def test_upkeep_is_repeated_after_a_failure(
    database: Database, rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("INTERVAL_SECONDS", "RETRY_SECONDS"):
        monkeypatch.setattr(upkeep, name, 0.01)
    await rows.execute("ALTER TABLE events RENAME TO renamed; CREATE TABLE events (LIKE renamed)")
    failures = metrics.FAILURES.labels("partitions", "WrongObjectTypeError")
    upkeep_task = asyncio.create_task(EventTable(database).maintain_forever())

    async def has_failed() -> bool:
        return bool(failures._value.get())

    await eventually(has_failed)
    await rows.execute("DROP TABLE events; ALTER TABLE renamed RENAME TO events")

    async def are_created() -> bool:
        return len(await list_partitions(rows)) == 2

    await eventually(are_created)
    upkeep_task.cancel()


async def test_a_partition_that_is_being_dropped_is_not_listed(
    database: Database, rows: Any
) -> None:
    await store_of(database, days=7).save([incoming("old", days_ago(20)), incoming("1")])
    first, *_ = await list_partitions(rows)
    async with rows.transaction():
        await rows.execute(f"DROP TABLE {first.name}")
        async with database.acquire() as connection:
            listing = asyncio.create_task(list_partitions(connection))
            await waiting_for_a_lock(rows)
    assert first.name not in {partition.name for partition in await listing}
    assert not any(partition.is_unbounded for partition in await listing)


async def test_storing_an_event_is_retried_when_its_partition_was_dropped(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = EventTable(database, retention_days=7)
    ensure_partitions = table.ensure_partitions

    async def create_and_drop(moments: Any) -> None:
        await ensure_partitions(moments)
        await TablePartitions(database, retention_days=7).drop_old()

    store = EventStore(database, table)
    with monkeypatch.context() as patched:
        patched.setattr(table, "ensure_partitions", create_and_drop)
        with pytest.raises(Unavailable, match="was dropped"):
            await store.save([incoming("late", days_ago(30))])
    assert statuses(await store.save([incoming("late", days_ago(30))])) == [Status.STORED]


async def test_partitions_ahead_have_no_gaps(database: Database, rows: Any) -> None:
    for days in (30, 0, 400):
        await TablePartitions(database, retention_days=days).make_ahead()
    partitions = await list_partitions(rows)
    assert partitions[0].contains(datetime.now(UTC))
    for partition, following in pairwise(partitions):
        assert partition.ends == following.begins
    assert partitions[-1].ends > datetime.now(UTC) + timedelta(days=30)
    assert len(partitions) >= 10


async def test_other_old_partitions_are_dropped_when_one_cannot_be(
    database: Database, rows: Any
) -> None:
    await store_of(database, days=7).save(
        [incoming(str(days), days_ago(days)) for days in (9, 20, 30)]
    )
    first, *_ = await list_partitions(rows)
    await rows.execute(f"CREATE VIEW dependent AS TABLE {first.name}")
    with pytest.raises(asyncpg.DependentObjectsStillExistError):
        await EventTable(database, retention_days=7).maintain()
    assert await rows.fetchval("SELECT array_agg(id) FROM events") == ["30"]


async def test_a_replica_whose_clock_is_ahead_drops_no_partition_too_early(
    database: Database, rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store_of(database, days=7).save([incoming(str(days), days_ago(days)) for days in (1, 30)])
    monkeypatch.setattr(partitions, "datetime", clock_ahead(days=400))
    assert await TablePartitions(database, retention_days=7).drop_old() == 1
    assert await rows.fetchval("SELECT array_agg(id) FROM events") == ["1"]


async def test_dropped_rows_are_counted_once(database: Database, rows: Any) -> None:
    await store_of(database, days=7).save([incoming(str(n), days_ago(20)) for n in range(50)])
    await rows.execute("ANALYZE events")
    deleted = metrics.RETENTION_DELETED.labels("events")._value
    before = deleted.get()
    await asyncio.gather(
        *(TablePartitions(database, retention_days=7).drop_old() for _ in range(3)),
        return_exceptions=True,
    )
    assert deleted.get() == before + 50


async def test_a_sweep_keeps_the_key_of_an_event_that_is_stored_during_it(
    database: Database, rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = EventTable(database, retention_days=7)
    store = EventStore(database, table)
    await table.maintain()
    late = incoming("late", days_ago(30))
    _, keys = table.retentions()
    delete = keys._delete

    async def delete_and_store(first: int, end: int, before: datetime) -> int:
        count = await delete(first, end, before)
        if not first:
            await store.save([late])
        return count

    monkeypatch.setattr(retention, "BLOCKS", 1)
    monkeypatch.setattr(keys, "_delete", delete_and_store)
    await rows.execute(
        "INSERT INTO event_keys SELECT sha256(n::text::bytea), now() - interval '90 days'"
        " FROM generate_series(1, 1000) AS n"
    )
    assert await keys.sweep() == 1000
    assert statuses(await store.save([late])) == [Status.REDELIVERED]


async def test_a_lock_on_the_table_delays_only_events_that_need_a_new_partition(
    database: Database, rows: Any
) -> None:
    store = store_of(database)
    await store.save([incoming("1")])
    async with rows.transaction():
        await rows.execute("ANALYZE events")
        with pytest.raises(Unavailable):
            await store.save([incoming("old", days_ago(90))])
        assert statuses(await store.save([incoming("2")])) == [Status.STORED]
    assert statuses(await store.save([incoming("old", days_ago(90))])) == [Status.STORED]


@pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is not installed")
async def test_partitions_are_created_and_dropped_through_a_pooler(
    database: Database, database_url: str, rows: Any, tmp_path: Path
) -> None:
    async with pgbouncer(database_url, "transaction", tmp_path) as url:
        pooled = Database(url, "ingest", MIGRATIONS, pool_size=2)
        await pooled.connect()
        await store_of(pooled, days=7).save([incoming("old", days_ago(20)), incoming("1")])
        assert await EventTable(pooled, retention_days=7).maintain()
        await pooled.close()
    assert [id for (id,) in await rows.fetch("SELECT id FROM events")] == ["1"]


@pytest.fixture(
    params=[
        "direct",
        pytest.param(
            "pooled", marks=pytest.mark.skipif(PROGRAM is None, reason="pgbouncer is not installed")
        ),
    ]
)
async def other_date_style(
    database_url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[str]:
    """The address of a database with another date style and time zone."""
    owner = await asyncpg.connect(database_url)
    name = await owner.fetchval("SELECT current_database()")
    await owner.execute(
        f"ALTER DATABASE {name} SET datestyle = 'SQL, DMY';"
        f"ALTER DATABASE {name} SET timezone = 'Asia/Kolkata'"
    )
    try:
        if request.param == "direct":
            yield database_url
        else:
            async with pgbouncer(database_url, "transaction", tmp_path) as url:
                yield url
    finally:
        await owner.execute(f"ALTER DATABASE {name} RESET ALL")
        await owner.close()


async def test_partitions_are_listed_correctly_with_any_date_style_and_time_zone(
    other_date_style: str,
) -> None:
    """PostgreSQL writes India's time zone as `IST`; before version 18 it reads that as Israel's."""
    database = Database(other_date_style, "ingest", MIGRATIONS, pool_size=2)
    await database.connect()
    await EventTable(database).maintain()
    async with database.acquire() as connection:
        listed = await list_partitions(connection)
        assert str(await connection.fetchval("SHOW datestyle")).startswith("ISO")
    assert all(partition.begins.hour == 0 == partition.ends.hour for partition in listed)
    assert any(partition.contains(datetime.now(UTC)) for partition in listed)
    await database.close()

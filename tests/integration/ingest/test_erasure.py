"""A person is erased from PostgreSQL and from every stream, whatever is killed in between."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
import pytest
from nats.js.errors import NotFoundError

from hogsend.contract.contacts import INGEST_ERASE, ContactErased, EraseContact
from hogsend.contract.errors import NotFound
from hogsend.contract.events import Event
from hogsend.contract.headers import format_time
from hogsend.contract.streams import PERSONAL_DATA_STREAMS, StreamName
from hogsend.contract.users import User
from hogsend.service import streams
from hogsend.service.database import Database
from services.ingest.app import MIGRATIONS
from services.ingest.erasure.jobs import MAX_SWEEPING_SECONDS, ErasureJobs, Job
from services.ingest.replay.announced import AnnouncedEvents
from tests.integration import harness
from tests.integration.ingest.driver import Driver
from tests.servers import Servers
from tests.waiting import PATIENCE_SECONDS, eventually

ADA = {"properties": {"email": "ada@example.com"}}


async def contact_id(driver: Driver, email: str) -> UUID:
    id = await driver.rows.fetchval("SELECT id FROM ingest.contacts WHERE email = $1", email)
    assert isinstance(id, UUID)
    return id


async def messages_in_streams(driver: Driver, *, persons: bool = True) -> str:
    """All messages that are still in the streams with personal data, as text."""
    texts: list[str] = []
    for stream in PERSONAL_DATA_STREAMS:
        if stream is StreamName.PERSONS and not persons:
            continue
        state = (await driver.operator.js.stream_info(stream)).state
        for sequence in range(max(state.first_seq, 1), state.last_seq + 1):
            with suppress(NotFoundError):
                message = await driver.operator.js.get_msg(stream, sequence)
                texts.append(f"{stream} {(message.data or b'').decode()}")
    return "\n".join(texts)


async def queue_everywhere(servers: Servers, driver: Driver) -> None:
    """Queue messages of two people on each stream that ingest does not drain, and a dead letter."""
    async with harness.connected(servers, User.ANALYTICS) as analytics:
        await streams.reconcile(analytics.js, User.ANALYTICS)
    async with harness.connected(servers, User.APP) as app:
        for user in ("ada", "ben"):
            await app.publish("hogsend.persons.set", msgspec.json.encode({"distinctId": user}), {})
    await driver.queue(b'{"event": {"distinct_id": "ada"')


async def test_a_person_is_erased_from_tables_and_streams(servers: Servers, driver: Driver) -> None:
    async with driver.replica():
        await driver.post("e1", distinct_id="anon-ada")
        await driver.post("e2", distinct_id="ada", person=ADA)
        await driver.post("e3", distinct_id="anon-ada", person=ADA)
        await driver.post("e4", distinct_id="ben")
        await queue_everywhere(servers, driver)
        await driver.dead_letters(1)
        id = await contact_id(driver, "ada@example.com")
        async with harness.connected(servers, User.GATEWAY) as gateway:
            erasure = await gateway.request(INGEST_ERASE, EraseContact(contact_id=id))
            again = await gateway.request(INGEST_ERASE, EraseContact(contact_id=id))
            assert again.id == erasure.id
            with pytest.raises(NotFound):
                await gateway.request(INGEST_ERASE, EraseContact(contact_id=UUID(int=7)))

        async def swept() -> bool:
            return bool(await driver.rows.fetchval("SELECT swept_at FROM ingest.erasures"))

        await eventually(swept)
        users = await driver.rows.fetch("SELECT DISTINCT user_id FROM ingest.events")
        assert [row["user_id"] for row in users] == ["ben"]
        assert not await driver.rows.fetchval("SELECT count(*) FROM ingest.contact_merges")
        remaining = await messages_in_streams(driver)
        assert "ben" in remaining
        assert "ada@" not in remaining
        lines = [line for line in remaining.splitlines() if "ada" in line]
        assert len(lines) == 1
        erased = msgspec.json.decode(lines[0].partition(" ")[2], type=ContactErased)
        assert (erased.contact_id, erased.id) == (str(id), erasure.id)
        assert {"ada", "anon-ada"} <= set(erased.user_ids)

        # A repeated event is not stored again; an event after the erasure creates a new contact.
        await driver.post("e2", distinct_id="ada", person=ADA, received_at="2026-01-01T01:00:00Z")
        now = format_time(datetime.now(UTC))
        await driver.post("e5", distinct_id="ada", received_at=now)
        await driver.drained()
        rows = await driver.rows.fetch(
            "SELECT id, contact_id FROM ingest.events WHERE user_id = 'ada'"
        )
        assert [row["id"] for row in rows] == ["e5"]
        assert rows[0]["contact_id"] != id


async def test_another_replica_finishes_the_erasure_of_a_killed_replica(
    servers: Servers, driver: Driver
) -> None:
    async with driver.replica():
        await driver.post("e1", distinct_id="ada", person=ADA)
        await driver.drained()
    id = await contact_id(driver, "ada@example.com")
    database = Database(driver.database_url, "ingest", MIGRATIONS, pool_size=2)
    await database.connect()
    jobs = ErasureJobs(database, settle_seconds=0)
    await jobs.request(id)
    # The killed replica has claimed the job, and does nothing more.
    assert len(await jobs.claim(announced=False, limit=1)) == 1
    assert await jobs.claim(announced=False, limit=1) == []
    await database.close()
    assert await driver.rows.fetchval("SELECT count(*) FROM ingest.events") == 1
    await driver.rows.execute("UPDATE ingest.erasures SET due_at = now()")
    async with driver.replica(settle_seconds=0):

        async def finished() -> bool:
            return bool(await driver.rows.fetchval("SELECT finished_at FROM ingest.erasures"))

        await eventually(finished)
    assert await driver.rows.fetchval("SELECT count(*) FROM ingest.events") == 0
    row = await driver.rows.fetchrow("SELECT person, events FROM ingest.erasures")
    assert row is not None
    assert (row["person"], row["events"]) == (None, 1)
    assert "ada@" not in await messages_in_streams(driver, persons=False)


async def test_a_second_erasure_deletes_messages_that_a_restored_backup_brought_back(
    servers: Servers, driver: Driver
) -> None:
    async def erase() -> bool:
        id = await contact_id(driver, "ada@example.com")
        async with harness.connected(servers, User.GATEWAY) as gateway:
            await gateway.request(INGEST_ERASE, EraseContact(contact_id=id))
        unfinished = "SELECT count(*) FROM ingest.erasures WHERE finished_at IS NULL"

        async def finished() -> bool:
            return not await driver.rows.fetchval(unfinished)

        return bool(await eventually(finished))

    async with driver.replica(settle_seconds=0):
        await driver.post("e1", distinct_id="ada", person=ADA)
        await driver.drained()
        assert await erase()
        # As if streams were restored from a backup that is older than the erasure.
        await queue_everywhere(servers, driver)
        await driver.dead_letters(1)
        assert "distinctId" in await messages_in_streams(driver)
        await driver.post(
            "e2", distinct_id="ada", person=ADA, received_at=format_time(datetime.now(UTC))
        )
        await driver.drained()
        assert await erase()
        remaining = [
            line for line in (await messages_in_streams(driver)).splitlines() if "ada" in line
        ]
        assert all("erasedAt" in line for line in remaining), remaining


async def test_what_was_deleted_before_a_replica_was_killed_or_a_sweep_failed_is_counted(
    driver: Driver,
) -> None:
    async with driver.replica():
        for number in range(3):
            await driver.post(f"e{number}", distinct_id="ada", person=ADA)
        await driver.drained()
    database = Database(driver.database_url, "ingest", MIGRATIONS, pool_size=2)
    await database.connect()
    jobs = ErasureJobs(database, settle_seconds=0)
    id = await contact_id(driver, "ada@example.com")
    await jobs.request(id)
    (job,) = await jobs.claim(announced=False, limit=1)
    # After a replica was killed here, the next one repeats the step and deletes no more events.
    assert [await jobs.delete_events(job) for _ in range(2)] == [3, 0]
    # A sweep that failed had deleted some messages.
    await jobs.record_deleted(job, messages=2)
    await jobs.record_sweep(job, messages=4)
    erasure = await jobs.request(id)
    assert (erasure.events, erasure.messages) == (3, 6)
    await database.close()


async def test_a_replica_that_announces_an_erasure_late_does_not_advance_the_second_sweep(
    driver: Driver,
) -> None:
    async with driver.replica():
        await driver.post("e1", distinct_id="ada", person=ADA)
        await driver.drained()
    database = Database(driver.database_url, "ingest", MIGRATIONS, pool_size=2)
    await database.connect()
    jobs = ErasureJobs(database)
    await jobs.request(await contact_id(driver, "ada@example.com"))
    (job,) = await jobs.claim(announced=False, limit=1)
    # Deleting events may take longer than the claim, so that another replica claims the job too.
    await driver.rows.execute("UPDATE ingest.erasures SET due_at = now()")
    (late,) = await jobs.claim(announced=False, limit=1)
    await jobs.mark_announced(job)
    (announced,) = await jobs.claim(announced=True, limit=1)
    await jobs.record_sweep(announced, messages=0)
    await jobs.mark_announced(late)
    assert await jobs.claim(announced=True, limit=1) == []
    await database.close()


async def test_a_renewed_job_is_not_claimed_by_another_replica_until_its_step_ends(
    driver: Driver,
) -> None:
    async with driver.replica():
        await driver.post("e1", distinct_id="ada", person=ADA)
        await driver.drained()
    database = Database(driver.database_url, "ingest", MIGRATIONS, pool_size=2)
    await database.connect()
    jobs = ErasureJobs(database, settle_seconds=0)
    await jobs.request(await contact_id(driver, "ada@example.com"))

    async def check_renewal(claimed: list[Job], *, announced: bool) -> None:
        await driver.rows.execute("UPDATE ingest.erasures SET due_at = now()")
        await jobs.renew(claimed, announced=announced)
        assert await jobs.claim(announced=announced, limit=1) == []

    claimed = await jobs.claim(announced=False, limit=1)
    await check_renewal(claimed, announced=False)
    await jobs.mark_announced(claimed[0])
    # A late renewal of this step does not delay the next step.
    await jobs.renew(claimed, announced=False)
    claimed = await jobs.claim(announced=True, limit=1)
    await check_renewal(claimed, announced=True)
    await jobs.record_sweep(claimed[0], messages=0)
    await jobs.renew(claimed, announced=True)
    claimed = await jobs.claim(announced=True, limit=1)
    assert claimed[0].is_swept
    await check_renewal(claimed, announced=True)
    await jobs.record_sweep(claimed[0], messages=0)
    await jobs.renew(claimed, announced=True)
    assert await jobs.claim(announced=True, limit=1) == []
    await database.close()


async def test_sweeps_are_repeated_until_one_deletes_no_message_or_for_an_hour(
    driver: Driver,
) -> None:
    async with driver.replica():
        await driver.post("e1", distinct_id="ada", person=ADA)
        await driver.drained()
    database = Database(driver.database_url, "ingest", MIGRATIONS, pool_size=2)
    await database.connect()
    jobs = ErasureJobs(database, settle_seconds=0)
    await jobs.request(await contact_id(driver, "ada@example.com"))
    (job,) = await jobs.claim(announced=False, limit=1)
    await jobs.mark_announced(job)

    async def finishes(*, messages: int) -> bool:
        (job,) = await jobs.claim(announced=True, limit=1)
        return await jobs.record_sweep(job, messages=messages)

    # The second sweep always follows, and a later one each time that messages were deleted.
    assert [await finishes(messages=count) for count in (0, 2, 1)] == [False] * 3
    assert await finishes(messages=0)
    assert await jobs.claim(announced=True, limit=1) == []
    restore = (
        "UPDATE ingest.erasures SET finished_at = NULL, person = $1::jsonb, "
        "swept_at = now() - $2::interval"
    )
    person = msgspec.json.encode(job.person).decode()
    await driver.rows.execute(restore, person, timedelta(seconds=MAX_SWEEPING_SECONDS / 2))
    assert not await finishes(messages=1)
    await driver.rows.execute(restore, person, timedelta(seconds=MAX_SWEEPING_SECONDS + 1))
    assert await finishes(messages=1)
    await database.close()


async def test_a_job_that_another_replica_is_claiming_is_skipped_without_a_wait(
    driver: Driver,
) -> None:
    async with driver.replica():
        for name in ("ada", "ben"):
            person = {"properties": {"email": f"{name}@example.com"}}
            await driver.post(f"e-{name}", distinct_id=name, person=person)
        await driver.drained()
    database = Database(driver.database_url, "ingest", MIGRATIONS, pool_size=2)
    await database.connect()
    jobs = ErasureJobs(database)
    first, second = [await contact_id(driver, f"{name}@example.com") for name in ("ada", "ben")]
    await jobs.request(first)
    await jobs.request(second)
    async with driver.rows.transaction(), asyncio.timeout(PATIENCE_SECONDS):
        claiming = "SELECT FROM ingest.erasures WHERE contact_id = $1 FOR UPDATE"
        await driver.rows.execute(claiming, first)
        claimed = await jobs.claim(announced=False, limit=2)
    assert [job.contact_id for job in claimed] == [second]
    await database.close()


async def everything(driver: Driver) -> set[str]:
    """All rows of ingest's tables about people, as text."""
    all_rows: set[str] = set()
    for table in (
        "contacts",
        "contact_keys",
        "contact_merges",
        "events",
        "event_keys",
        "erasures",
        "erased_keys",
    ):
        rows = await driver.rows.fetch(f"SELECT row::text FROM ingest.{table} AS row")  # noqa: S608
        all_rows |= {f"{table} {row[0]}" for row in rows}
    return all_rows


async def test_an_erasure_changes_no_row_of_other_people(driver: Driver) -> None:
    async def merged(name: str) -> None:
        person = {"properties": {"email": f"{name}@example.com"}}
        await driver.post(f"{name}1", distinct_id=f"anon-{name}")
        await driver.post(f"{name}2", distinct_id=name, person=person)
        await driver.drained()
        await driver.post(f"{name}3", distinct_id=f"anon-{name}", person=person)
        await driver.drained()

    database = Database(driver.database_url, "ingest", MIGRATIONS, pool_size=2)
    await database.connect()
    jobs = ErasureJobs(database, settle_seconds=0)
    async with driver.replica():
        await merged("ben")
        rows_of_ben = await everything(driver)
        await merged("cyd")
    await jobs.request(await contact_id(driver, "cyd@example.com"))
    # As if another replica had claimed this job.
    await driver.rows.execute("UPDATE ingest.erasures SET due_at = now() + interval '1 day'")
    rows_before = await everything(driver)
    assert rows_of_ben - rows_before == set()

    async with driver.replica():
        await merged("ada")
    erasure = await jobs.request(await contact_id(driver, "ada@example.com"))
    (job,) = await jobs.claim(announced=False, limit=9)
    assert str(job.id) == erasure.id
    await jobs.delete_events(job)
    await jobs.mark_announced(job)
    for _ in range(2):
        (job,) = await jobs.claim(announced=True, limit=9)
        assert str(job.id) == erasure.id
        await jobs.record_sweep(job, messages=0)
    for announced in (False, True):
        assert await jobs.claim(announced=announced, limit=9) == [], (
            "one job is finished, the other is not due"
        )
    rows_after = await everything(driver)
    assert rows_before - rows_after == set()
    assert {row.partition(" ")[0] for row in rows_after - rows_before} == {
        "erasures",
        "erased_keys",
    }

    # A late event of another person is stored, even if the erased email is its user id.
    async with driver.replica():
        await driver.post("dora1", distinct_id="dora")
        await driver.post("dora2", distinct_id="ada@example.com")
        await driver.post("ada4", distinct_id="ada")
        await driver.drained()
    late = await driver.rows.fetch("SELECT id FROM ingest.events WHERE id ~ '^(ada|dora)'")
    assert {row["id"] for row in late} == {"dora1", "dora2"}
    await database.close()


async def test_an_event_of_an_erased_person_that_is_not_deleted_yet_is_not_replayed(
    driver: Driver,
) -> None:
    async with driver.replica():
        # Only the email identifies the person, and the row of the event does not contain it.
        await driver.post("e1", distinct_id="anonymous", person=ADA)
        await driver.post("e2", distinct_id="ben")
        await driver.drained()
    database = Database(driver.database_url, "ingest", MIGRATIONS, pool_size=2)
    await database.connect()
    events = AnnouncedEvents(driver.operator, database)
    span = datetime(2025, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)

    async def replayed() -> list[str]:
        messages = await events.read_database(*span, received_before=None, after=None)
        return [msgspec.json.decode(message.body, type=Event).id for message in messages]

    assert sorted(await replayed()) == ["e1", "e2"]
    await ErasureJobs(database).request(await contact_id(driver, "ada@example.com"))
    assert await replayed() == ["e2"]
    await database.close()

"""A person is erased from PostgreSQL and from every stream, whatever is killed in between."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
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
from services.ingest.erasure.jobs import ErasureJobs, Job
from services.ingest.replay.announced import AnnouncedEvents
from tests.integration import harness
from tests.integration.ingest.driver import Driver
from tests.servers import Servers
from tests.waiting import eventually

ADA = {"properties": {"email": "ada@example.com"}}


async def contact_id(driver: Driver, email: str) -> UUID:
    found = await driver.rows.fetchval("SELECT id FROM ingest.contacts WHERE email = $1", email)
    assert isinstance(found, UUID)
    return found


async def left(driver: Driver, *, persons: bool = True) -> str:
    """Whatever the streams still hold, as text."""
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
    """Messages of two people on each stream that ingest does not drain, and a dead letter."""
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
        remaining = await left(driver)
        assert "ben" in remaining
        assert "ada@" not in remaining
        told = [line for line in remaining.splitlines() if "ada" in line]
        assert len(told) == 1
        heard = msgspec.json.decode(told[0].partition(" ")[2], type=ContactErased)
        assert (heard.contact_id, heard.id) == (str(id), erasure.id)
        assert {"ada", "anon-ada"} <= set(heard.user_ids)

        # What is repeated stays away; what happens afterwards is a new contact's.
        await driver.post("e2", distinct_id="ada", person=ADA, received_at="2026-01-01T01:00:00Z")
        now = format_time(datetime.now(UTC))
        await driver.post("e5", distinct_id="ada", received_at=now)
        await driver.drained()
        rows = await driver.rows.fetch(
            "SELECT id, contact_id FROM ingest.events WHERE user_id = 'ada'"
        )
        assert [row["id"] for row in rows] == ["e5"]
        assert rows[0]["contact_id"] != id


async def test_a_replica_that_was_killed_leaves_the_rest_to_another(
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
    # The one that is killed has taken the job, and does nothing more.
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
    assert "ada@" not in await left(driver, persons=False)


async def test_who_is_made_again_is_erased_from_streams_that_were_restored(
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
        # As from a backup that is older than the erasure.
        await queue_everywhere(servers, driver)
        await driver.dead_letters(1)
        assert "distinctId" in await left(driver)
        await driver.post(
            "e2", distinct_id="ada", person=ADA, received_at=format_time(datetime.now(UTC))
        )
        await driver.drained()
        assert await erase()
        remaining = [line for line in (await left(driver)).splitlines() if "ada" in line]
        assert all("erasedAt" in line for line in remaining), remaining


async def test_events_are_counted_though_the_sweep_fails(driver: Driver) -> None:
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
    # A replica that is killed here leaves it to the next, which finds none.
    assert [await jobs.delete_events(job) for _ in range(2)] == [3, 0]
    await jobs.record_sweep(job, messages=4)
    erasure = await jobs.request(id)
    assert (erasure.events, erasure.messages) == (3, 4)
    await database.close()


async def test_a_replica_that_is_late_to_begin_does_not_hasten_the_second_sweep(
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
    # Deleting events may take longer than the claim: another replica does the same then.
    await driver.rows.execute("UPDATE ingest.erasures SET due_at = now()")
    (late,) = await jobs.claim(announced=False, limit=1)
    await jobs.mark_announced(job)
    (announced,) = await jobs.claim(announced=True, limit=1)
    await jobs.record_sweep(announced, messages=0)
    await jobs.mark_announced(late)
    assert await jobs.claim(announced=True, limit=1) == []
    await database.close()


async def test_what_takes_long_stays_taken_until_it_is_done(driver: Driver) -> None:
    async with driver.replica():
        await driver.post("e1", distinct_id="ada", person=ADA)
        await driver.drained()
    database = Database(driver.database_url, "ingest", MIGRATIONS, pool_size=2)
    await database.connect()
    jobs = ErasureJobs(database, settle_seconds=0)
    await jobs.request(await contact_id(driver, "ada@example.com"))

    async def renewed_in_time(taken: list[Job], *, announced: bool) -> None:
        await driver.rows.execute("UPDATE ingest.erasures SET due_at = now()")
        await jobs.renew(taken, announced=announced)
        assert await jobs.claim(announced=announced, limit=1) == []

    taken = await jobs.claim(announced=False, limit=1)
    await renewed_in_time(taken, announced=False)
    await jobs.mark_announced(taken[0])
    # The next step waits for nothing, though this one is renewed once more.
    await jobs.renew(taken, announced=False)
    taken = await jobs.claim(announced=True, limit=1)
    await renewed_in_time(taken, announced=True)
    await jobs.record_sweep(taken[0], messages=0)
    await jobs.renew(taken, announced=True)
    taken = await jobs.claim(announced=True, limit=1)
    assert taken[0].is_swept
    await renewed_in_time(taken, announced=True)
    await jobs.record_sweep(taken[0], messages=0)
    await jobs.renew(taken, announced=True)
    assert await jobs.claim(announced=True, limit=1) == []
    await database.close()


async def everything(driver: Driver) -> set[str]:
    """Every row there is, as text."""
    found: set[str] = set()
    for table in (
        "contacts",
        "contact_keys",
        "contact_merges",
        "events",
        "event_keys",
        "erasures",
        "erased_keys",
    ):
        rows = await driver.rows.fetch(f"SELECT one::text FROM ingest.{table} AS one")  # noqa: S608
        found |= {f"{table} {row[0]}" for row in rows}
    return found


async def test_an_erasure_leaves_everybody_else_as_they_were(driver: Driver) -> None:
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
        bens = await everything(driver)
        await merged("cyd")
    await jobs.request(await contact_id(driver, "cyd@example.com"))
    # Another replica is at this one.
    await driver.rows.execute("UPDATE ingest.erasures SET due_at = now() + interval '1 day'")
    others = await everything(driver)
    assert bens - others == set()

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
        await jobs.record_sweep(job, messages=1)
    for announced in (False, True):
        assert await jobs.claim(announced=announced, limit=9) == [], (
            "finished, and the other one not due"
        )
    left = await everything(driver)
    assert others - left == set()
    assert {row.partition(" ")[0] for row in left - others} == {"erasures", "erased_keys"}

    # Nor does it keep away what is late of somebody else, though they go by that address.
    async with driver.replica():
        await driver.post("dora1", distinct_id="dora")
        await driver.post("dora2", distinct_id="ada@example.com")
        await driver.post("ada4", distinct_id="ada")
        await driver.drained()
    late = await driver.rows.fetch("SELECT id FROM ingest.events WHERE id ~ '^(ada|dora)'")
    assert {row["id"] for row in late} == {"dora1", "dora2"}
    await database.close()


async def test_what_is_not_deleted_yet_is_not_replayed(driver: Driver) -> None:
    async with driver.replica():
        # Nothing but the address tells whose this is, and a row does not have it.
        await driver.post("e1", distinct_id="anonymous", person=ADA)
        await driver.post("e2", distinct_id="ben")
        await driver.drained()
    database = Database(driver.database_url, "ingest", MIGRATIONS, pool_size=2)
    await database.connect()
    events = AnnouncedEvents(driver.operator, database)
    span = datetime(2025, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)

    async def replayed() -> list[str]:
        found = await events.read_database(*span, received_before=None, after=None)
        return [msgspec.json.decode(one.body, type=Event).id for one in found]

    assert sorted(await replayed()) == ["e1", "e2"]
    await ErasureJobs(database).request(await contact_id(driver, "ada@example.com"))
    assert await replayed() == ["e2"]
    await database.close()

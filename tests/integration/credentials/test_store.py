"""The store in PostgreSQL and the store in memory of the unit tests behave alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from hogsend.contract.errors import Unavailable
from hogsend.service.database import Database
from services.credentials.app import MIGRATIONS
from services.credentials.authorization.store import AuthorizationStore, PendingAuthorization
from services.credentials.records import PendingChange
from services.credentials.refresh_lock import RefreshLock
from services.credentials.store import CredentialStore
from tests.postgres_locks import waiting_for_a_lock
from tests.servers import Servers
from tests.unit.credentials.fakes import START, Clock, MemoryAuthorizations, MemoryStore
from tests.waiting import eventually


@pytest.fixture(scope="module")
async def database(servers: Servers) -> AsyncIterator[Database]:
    """One database for the module, migrated once."""
    async with servers.fresh_database() as url:
        database = Database(url, "credentials", MIGRATIONS, pool_size=4)
        await database.connect()
        yield database
        await database.close()


@pytest.fixture
async def postgres(database: Database) -> Database:
    """The same database without any row."""
    async with database.acquire() as connection:
        await connection.execute(
            "TRUNCATE provider_credentials, provider_versions, provider_refreshes, "
            "provider_authorizations"
        )
    return database


@pytest.fixture(params=["memory", "postgres"])
def store(request: pytest.FixtureRequest) -> CredentialStore:
    if request.param == "memory":
        return MemoryStore(Clock())
    return CredentialStore(request.getfixturevalue("postgres"))


async def pending(store: CredentialStore, provider: str = "posthog") -> PendingChange | None:
    async with store.pending_change(provider) as change:
        return change


async def test_saving_a_row_replaces_only_its_kind_and_increments_the_version(
    store: CredentialStore,
) -> None:
    assert (await store.load("posthog")).version == 0
    first = (await store.save("posthog", "oauth", "a")).row
    versions = [(await store.load("posthog")).version]
    derived = (await store.save("posthog", "derived", "d")).row
    versions.append((await store.load("posthog")).version)
    second = (await store.save("posthog", "oauth", "b")).row
    snapshot = await store.load("posthog")
    versions.append(snapshot.version)
    assert versions == sorted(set(versions))
    assert snapshot.rows == {"oauth": second, "derived": derived}
    assert (second.payload, second.created_at) == ("b", first.created_at)
    assert second.updated_at > first.updated_at
    assert await store.all_rows() in (
        [("posthog", second), ("posthog", derived)],
        [("posthog", derived), ("posthog", second)],
    )


async def test_a_deletion_is_a_change_only_when_rows_existed(
    store: CredentialStore,
) -> None:
    assert not await store.delete("posthog")
    assert (await store.load("posthog")).version == 0
    await store.save("posthog", "oauth", "a")
    before = (await store.load("posthog")).version
    assert await store.delete("posthog")
    after = await store.load("posthog")
    assert after.version > before
    assert after.rows == {}
    assert await store.granted_providers() == []


async def test_granted_providers_are_those_with_a_grant(store: CredentialStore) -> None:
    await store.save("b", "oauth", "a")
    await store.save("a", "oauth", "a")
    await store.save("c", "derived", "a")
    assert await store.granted_providers() == ["a", "b"]


async def test_a_refreshed_grant_replaces_the_grant_it_was_refreshed_from(
    store: CredentialStore,
) -> None:
    row = (await store.save("posthog", "oauth", "a")).row
    before = await store.load("posthog")
    async with store.refresh_lock("posthog") as lock:
        version = await lock.save(row, "b")
        after = await lock.load()
    assert after.version == version
    assert after.version > before.version
    assert after.rows["oauth"].payload == "b"
    assert after.rows["oauth"].updated_at > row.updated_at
    change = await pending(store)
    assert change is not None
    assert (change.version, change.change, change.changed_kinds) == (
        version,
        "refreshed",
        ["oauth"],
    )


async def test_a_refreshed_grant_does_not_replace_another_grant(store: CredentialStore) -> None:
    row = (await store.save("posthog", "oauth", "a")).row
    await store.save("posthog", "oauth", "again")
    before = await store.load("posthog")
    async with store.refresh_lock("posthog") as lock:
        assert await lock.save(row, "b") is None
    assert await store.load("posthog") == before
    await store.delete("posthog")
    async with store.refresh_lock("posthog") as lock:
        assert await lock.save(before.rows["oauth"], "b") is None
    assert (await store.load("posthog")).rows == {}


async def test_a_resealed_row_is_the_same_grant(store: CredentialStore) -> None:
    row = (await store.save("posthog", "oauth", "a")).row
    before = await store.load("posthog")
    async with store.refresh_lock("posthog") as lock:
        await store.reseal("posthog", row, "sealed anew")
        resealed = await lock.load()
        assert resealed.rows["oauth"].payload == "sealed anew"
        assert resealed.rows["oauth"].updated_at == row.updated_at
        assert resealed.version == before.version
        await store.reseal("posthog", row, "sealed by a late replica")
        assert await lock.load() == resealed
        assert await lock.save(row, "b") is not None


async def test_a_refresh_is_recorded_from_its_start_to_its_failure(
    store: CredentialStore,
) -> None:
    row = (await store.save("posthog", "oauth", "a")).row
    assert (await store.load("posthog")).refresh is None
    async with store.refresh_lock("posthog") as lock:
        for failures in (1, 2):
            started_at = START + timedelta(minutes=failures)
            await lock.record_start(row, started_at)
            state = (await lock.load()).refresh
            assert state is not None
            assert (state.is_interrupted, state.started_at) == (True, started_at)
            assert state.failures == failures - 1
            failed_at = started_at + timedelta(seconds=1)
            assert (
                await lock.record_failure(row, failed_at, "why", needs_reconnect=True) == failures
            )
            state = (await store.load("posthog")).refresh
            assert state is not None
            assert (state.is_interrupted, state.failed_at) == (False, failed_at)
            assert (state.failures, state.reason, state.needs_reconnect) == (failures, "why", True)


async def test_a_lost_response_is_recorded_neither_as_a_refusal_nor_as_interrupted(
    store: CredentialStore,
) -> None:
    row = (await store.save("posthog", "oauth", "a")).row
    async with store.refresh_lock("posthog") as lock:
        await lock.record_start(row, START)
        await lock.record_failure(row, START, "why", needs_reconnect=False, response_lost=True)
        state = (await lock.load()).refresh
        assert state is not None
        assert (state.is_response_lost, state.is_interrupted, state.started_at) == (
            True,
            False,
            START,
        )
        await lock.record_start(row, START + timedelta(seconds=15))
        state = (await lock.load()).refresh
        assert state is not None
        assert (state.is_response_lost, state.is_interrupted) == (False, True)
        await lock.record_failure(row, START + timedelta(seconds=16), "why", needs_reconnect=False)
        state = (await lock.load()).refresh
    assert state is not None
    assert (state.is_response_lost, state.is_interrupted, state.failures) == (False, False, 2)


async def test_a_refresh_state_is_not_applied_to_another_grant(store: CredentialStore) -> None:
    row = (await store.save("posthog", "oauth", "a")).row
    async with store.refresh_lock("posthog") as lock:
        await lock.record_start(row, START)
        await lock.record_failure(row, START, "why", needs_reconnect=True)
        again = (await store.save("posthog", "oauth", "b")).row
        assert (await lock.load()).refresh is None
        assert await lock.record_failure(again, START, "why", needs_reconnect=False) == 0
        await lock.record_start(again, START)
        state = (await lock.load()).refresh
    assert state is not None
    assert (state.failures, state.failed_at, state.needs_reconnect) == (0, None, False)


async def test_refreshes_of_one_provider_run_one_at_a_time(store: CredentialStore) -> None:
    order: list[str] = []

    async def refresh(lock: RefreshLock) -> None:
        order.append("second starts")
        await lock.load()

    async def second() -> None:
        async with store.refresh_lock("posthog") as lock:
            await refresh(lock)

    async with store.refresh_lock("posthog"):
        waiting = asyncio.create_task(second())
        async with store.refresh_lock("other"):
            order.append("another provider's")
        order.append("first ends")
    await waiting
    assert order == ["another provider's", "first ends", "second starts"]


async def test_a_change_is_pending_until_its_block_ends_without_an_error(
    store: CredentialStore,
) -> None:
    assert await pending(store) is None
    await store.save("posthog", "oauth", "a")
    await store.save("other", "derived", "d")
    assert sorted(await store.pending_changes()) == ["other", "posthog"]

    async def fail() -> None:
        async with store.pending_change("posthog"):
            raise Unavailable("not published")

    with pytest.raises(Unavailable, match="not published"):
        await fail()
    change = await pending(store)
    assert change is not None
    assert (change.change, change.changed_kinds) == ("stored", ["oauth"])
    assert change.rows == (await store.load("posthog")).rows
    assert await pending(store) is None
    assert await store.pending_changes() == ["other"]
    assert await store.published_versions() == {"posthog": change.version}
    await store.mark_all_pending()
    assert sorted(await store.pending_changes()) == ["other", "posthog"]


async def test_a_pending_change_is_locked_by_one_replica_at_a_time(postgres: Database) -> None:
    store = CredentialStore(postgres)
    await store.save("posthog", "oauth", "a")

    async with store.pending_change("posthog") as first:
        second = asyncio.create_task(pending(store))
        async with postgres.acquire() as connection:
            await waiting_for_a_lock(connection)
    assert first is not None
    assert await second is None


async def test_a_save_returns_its_change_unless_another_change_was_committed_in_between(
    postgres: Database,
) -> None:
    store = CredentialStore(postgres)
    assert (await store.save("posthog", "derived", "d")).change is None, (
        "the first change has no known predecessor"
    )
    alone = (await store.save("posthog", "oauth", "a")).change
    assert alone is not None
    assert alone == await pending(store)
    assert alone.rows == (await store.load("posthog")).rows

    async with postgres.acquire() as other, other.transaction():
        await other.execute("UPDATE provider_credentials SET payload = 'e' WHERE kind = 'derived'")
        await other.execute("UPDATE provider_versions SET version = version + 1")
        saving = asyncio.create_task(store.save("posthog", "oauth", "b"))
        async with postgres.acquire() as connection:
            await waiting_for_a_lock(connection)
    # The rows were read before the concurrent change was committed.
    assert (await saving).change is None
    change = await pending(store)
    assert change is not None
    assert {kind: row.payload for kind, row in change.rows.items()} == {
        "oauth": "b",
        "derived": "e",
    }


async def test_grant_and_derived_row_are_stored_as_one_change_or_not_at_all(
    store: CredentialStore,
) -> None:
    await store.save("posthog", "oauth", "a")
    outdated = (await store.load("posthog")).version
    derived = (await store.save("posthog", "derived", "d")).row
    before = await store.load("posthog")
    assert await store.save_grant("posthog", "b", "e", version=outdated) is None
    assert await store.load("posthog") == before
    saved = await store.save_grant("posthog", "b", "e", version=before.version)
    assert saved is not None
    after = await store.load("posthog")
    assert after.version > before.version
    assert {kind: row.payload for kind, row in after.rows.items()} == {"oauth": "b", "derived": "e"}
    assert after.rows["derived"].updated_at > derived.updated_at
    assert saved.row == after.rows["oauth"]
    change = await pending(store)
    assert change == saved.change
    assert change is not None
    assert (change.version, change.changed_kinds) == (after.version, ["derived", "oauth"])
    assert change.rows == after.rows


async def test_a_grant_is_stored_only_on_the_version_that_its_caller_read(
    store: CredentialStore,
) -> None:
    saved = await store.save_grant("posthog", "a", None, version=0)
    assert saved is not None
    first = await store.load("posthog")
    assert first.rows == {"oauth": saved.row}
    assert await pending(store) is not None
    await store.save("posthog", "derived", "d")
    before = await store.load("posthog")
    assert await store.save_grant("posthog", "b", None, version=first.version) is None
    assert await store.load("posthog") == before
    assert await store.save_grant("posthog", "b", None, version=before.version) is not None
    after = await store.load("posthog")
    assert (after.rows["oauth"].payload, after.rows["derived"]) == ("b", before.rows["derived"])
    change = await pending(store)
    assert change is not None
    assert change.changed_kinds == ["oauth"]


async def test_a_grant_that_waited_for_another_change_is_not_stored(postgres: Database) -> None:
    store = CredentialStore(postgres)
    await store.save("posthog", "oauth", "a")
    version = (await store.load("posthog")).version
    async with postgres.acquire() as other, other.transaction():
        await other.execute("UPDATE provider_versions SET version = version + 1")
        saving = asyncio.create_task(store.save_grant("posthog", "b", None, version=version))
        async with postgres.acquire() as connection:
            await waiting_for_a_lock(connection)
    assert await saving is None
    assert (await store.load("posthog")).rows["oauth"].payload == "a"


async def test_a_generation_contains_the_time_at_which_its_grant_was_connected(
    postgres: Database,
) -> None:
    store = CredentialStore(postgres)
    assert (await store.load("posthog")).connected_at is None
    # A version is rounded to milliseconds.
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    await store.save("posthog", "oauth", "a")
    after = datetime.now(UTC) + timedelta(milliseconds=1)
    await store.save("posthog", "derived", "d")
    connected_at = (await store.load("posthog")).connected_at
    assert connected_at is not None
    assert before <= connected_at <= after


async def test_connecting_and_deleting_start_a_new_generation_and_a_refresh_does_not(
    store: CredentialStore,
) -> None:
    generations = [(await store.load("posthog")).generation]

    async def append_generation() -> None:
        generations.append((await store.load("posthog")).generation)

    row = (await store.save("posthog", "oauth", "a")).row
    await append_generation()
    async with store.refresh_lock("posthog") as lock:
        assert await lock.save(row, "b") is not None
    await store.save("posthog", "derived", "d")
    await append_generation()
    await store.save_grant("posthog", "c", None, version=(await store.load("posthog")).version)
    await append_generation()
    await store.delete("posthog")
    await append_generation()
    await store.save("posthog", "derived", "d")
    await append_generation()
    none, connected, refreshed, again, deleted, derived = generations
    assert none == 0 < connected == refreshed < again < deleted == derived


async def test_a_derived_payload_is_stored_only_with_the_grant_it_was_derived_from(
    store: CredentialStore,
) -> None:
    assert await store.save_derived("posthog", "c", generation=0) is not None
    await store.save("posthog", "oauth", "a")
    generation = (await store.load("posthog")).generation
    saved = await store.save_derived("posthog", "d", generation=generation)
    assert saved is not None
    before = await store.load("posthog")
    assert saved.row == before.rows["derived"]
    assert await pending(store) == saved.change
    await store.save("posthog", "oauth", "b")
    before = await store.load("posthog")
    assert await store.save_derived("posthog", "e", generation=generation) is None
    assert await store.load("posthog") == before
    await store.delete("posthog")
    assert await store.save_derived("posthog", "e", generation=before.generation) is None
    assert (await store.load("posthog")).rows == {}


async def test_storing_a_derived_payload_waits_for_a_grant_that_is_being_stored(
    postgres: Database,
) -> None:
    store = CredentialStore(postgres)
    await store.save("posthog", "oauth", "a")
    generation = (await store.load("posthog")).generation
    async with postgres.acquire() as other, other.transaction():
        await other.execute("UPDATE provider_versions SET generation = version + 1")
        saving = asyncio.create_task(store.save_derived("posthog", "d", generation=generation))
        async with postgres.acquire() as connection:
            await waiting_for_a_lock(connection)
    assert await saving is None
    assert "derived" not in (await store.load("posthog")).rows


async def test_rows_are_always_locked_in_the_same_order(postgres: Database) -> None:
    store = CredentialStore(postgres)
    await store.save("posthog", "oauth", "a")
    await store.save("posthog", "derived", "d")
    version = (await store.load("posthog")).version
    lock = "SELECT FROM provider_credentials WHERE kind = $1 FOR UPDATE NOWAIT"
    async with postgres.acquire() as other, other.transaction():
        await other.execute(lock, "oauth")
        saving = asyncio.create_task(store.save_grant("posthog", "b", "e", version=version))
        await waiting_for_a_lock(other)
        # A deletion of both rows waits for the first row too, so it cannot cause a deadlock.
        await other.execute(lock, "derived")
    assert await saving is not None


async def test_marking_an_older_version_as_published_does_not_hide_a_newer_one(
    store: CredentialStore,
) -> None:
    await store.save("posthog", "oauth", "a")
    first = (await store.load("posthog")).version
    await store.save("posthog", "oauth", "b")
    second = await pending(store)
    assert second is not None
    await store.mark_published("posthog", first)
    assert await store.published_versions() == {"posthog": second.version}
    await store.save("posthog", "oauth", "c")
    third = (await store.load("posthog")).version
    await store.mark_published("posthog", third)
    assert await pending(store) is None


async def test_versions_and_times_increase_when_the_clock_is_behind_them(
    postgres: Database,
) -> None:
    """Subscribers drop a version that is not newer, and a refresh belongs to a row by its time."""
    store = CredentialStore(postgres)
    await store.save("posthog", "oauth", "a")
    await store.save("posthog", "derived", "d")
    async with postgres.acquire() as connection:
        await connection.execute(
            "UPDATE provider_credentials SET updated_at = now() + interval '1 hour'"
        )
        await connection.execute("UPDATE provider_versions SET version = version + 3600000")
    snapshots = [await store.load("posthog")]
    await store.save("posthog", "oauth", "b")
    snapshots.append(await store.load("posthog"))
    async with store.refresh_lock("posthog") as lock:
        await lock.save(snapshots[-1].rows["oauth"], "c")
    snapshots.append(await store.load("posthog"))
    await store.save_grant("posthog", "d", "e", version=snapshots[-1].version)
    snapshots.append(await store.load("posthog"))
    for before, after in pairwise(snapshots):
        assert after.version == before.version + 1
        assert after.rows["oauth"].updated_at > before.rows["oauth"].updated_at
    # A grant was connected by the first and the last of these changes, not by the refresh.
    versions = [snapshot.version for snapshot in snapshots]
    assert [snapshot.generation for snapshot in snapshots[1:]] == [
        versions[1],
        versions[1],
        versions[3],
    ]
    assert snapshots[-1].rows["derived"].updated_at > snapshots[0].rows["derived"].updated_at
    await store.delete("posthog")
    deleted = await store.load("posthog")
    assert deleted.version == deleted.generation == snapshots[-1].version + 1


@pytest.mark.parametrize("change", ["save", "save_derived", "save_grant", "refresh", "delete"])
async def test_a_change_after_a_restore_has_a_version_and_a_time_of_the_present(
    postgres: Database, change: str
) -> None:
    """The versions of the backup are behind those that subscribers have received."""
    store = CredentialStore(postgres)
    await store.save("posthog", "oauth", "a")
    await store.save("posthog", "derived", "d")
    async with postgres.acquire() as connection:
        await connection.execute("UPDATE provider_versions SET version = 5, generation = 5")
        await connection.execute("UPDATE provider_credentials SET updated_at = '2020-01-01Z'")
        restored_at: datetime = await connection.fetchval("SELECT clock_timestamp()")
    before = await store.load("posthog")
    match change:
        case "save":
            await store.save("posthog", "oauth", "b")
        case "save_derived":
            await store.save_derived("posthog", "e", generation=5)
        case "save_grant":
            await store.save_grant("posthog", "b", "e", version=5)
        case "refresh":
            async with store.refresh_lock("posthog") as lock:
                await lock.save(before.rows["oauth"], "b")
        case "delete":
            await store.delete("posthog")
    after = await store.load("posthog")
    assert after.version >= int(restored_at.timestamp() * 1000)
    is_same_grant = change in {"save_derived", "refresh"}
    assert after.generation == (5 if is_same_grant else after.version)
    for kind, row in after.rows.items():
        assert (row.updated_at >= restored_at) is (row.payload != before.rows[kind].payload)


async def test_a_first_grant_that_waited_for_another_has_a_later_version(
    postgres: Database,
) -> None:
    store = CredentialStore(postgres)
    async with postgres.acquire() as other, other.transaction():
        version: int = await other.fetchval(
            "INSERT INTO provider_versions"
            " (provider_id, version, change, changed_kinds, generation)"
            " SELECT 'posthog', ahead, 'stored', '{oauth}', ahead FROM CAST("
            "(extract(epoch FROM now()) * 1000)::bigint + 3600000 AS bigint) AS ahead"
            " RETURNING version"
        )
        saving = asyncio.create_task(store.save("posthog", "oauth", "a"))
        async with postgres.acquire() as connection:
            await waiting_for_a_lock(connection)
    await saving
    stored = await store.load("posthog")
    assert (stored.version, stored.generation) == (version + 1, version + 1)


async def test_a_change_of_one_provider_does_not_affect_another(postgres: Database) -> None:
    """Not even if both were stored in the same microsecond, with the same payloads."""
    store = CredentialStore(postgres)
    for provider in ("other", "posthog"):
        await store.save(provider, "oauth", "same")
        await store.save(provider, "derived", "same")
    async with postgres.acquire() as connection:
        await connection.execute("UPDATE provider_credentials SET updated_at = now()")
    async with store.refresh_lock("other") as lock:
        await lock.record_start((await lock.load()).rows["oauth"], START)
    change = await pending(store, "other")
    assert change is not None
    assert change.changed_kinds == ["derived"]
    before = await store.load("other")
    published = (await store.published_versions())["other"]

    row = (await store.load("posthog")).rows["oauth"]
    await store.reseal("posthog", row, "a")
    async with store.refresh_lock("posthog") as lock:
        await lock.record_start(row, START)
        await lock.record_failure(row, START, "why", needs_reconnect=True)
        assert await lock.save(row, "b") is not None
        refreshed = await lock.load()
    # The provider's other row is unchanged too.
    assert {kind: stored.payload for kind, stored in refreshed.rows.items()} == {
        "oauth": "b",
        "derived": "same",
    }
    both = await store.save_grant("posthog", "c", "d", version=refreshed.version)
    assert both is not None
    await store.mark_published("posthog", (await store.load("posthog")).version + 3_600_000)
    deleted = await store.delete("posthog")
    assert deleted
    alone = await store.save("posthog", "derived", "e")
    assert alone.change is not None
    assert set(alone.change.rows) == {"derived"}

    assert await store.load("other") == before
    assert (await store.published_versions())["other"] == published
    await store.mark_all_pending()
    assert await pending(store, "other") == change


@pytest.mark.parametrize("change", ["delete", "save_grant"])
async def test_a_change_without_a_version_is_rolled_back(postgres: Database, change: str) -> None:
    """It could not be published: services would continue with the deleted credential."""
    store = CredentialStore(postgres)
    await store.save("posthog", "oauth", "a")
    await store.save("posthog", "derived", "d")
    before = await store.load("posthog")
    async with postgres.acquire() as connection:
        await connection.execute("ALTER TABLE provider_versions RENAME TO renamed")
    try:
        with pytest.raises(Unavailable):
            await (
                store.delete("posthog")
                if change == "delete"
                else store.save_grant("posthog", "b", "e", version=before.version)
            )
    finally:
        async with postgres.acquire() as connection:
            await connection.execute("ALTER TABLE renamed RENAME TO provider_versions")
    assert await store.load("posthog") == before


async def test_storing_a_grant_that_postgresql_refuses_raises_unavailable(
    postgres: Database,
) -> None:
    store = CredentialStore(postgres)
    row = (await store.save("posthog", "oauth", "a")).row

    async def save(payload: str) -> None:
        async with store.refresh_lock("posthog") as lock:
            await lock.save(row, payload)

    # PostgreSQL's text cannot hold NUL.
    with pytest.raises(Unavailable, match="CharacterNotInRepertoireError"):
        await save("\0")
    assert (await store.load("posthog")).rows["oauth"] == row


async def test_a_connection_to_a_read_only_server_is_closed(postgres: Database) -> None:
    store = CredentialStore(postgres)
    row = (await store.save("posthog", "oauth", "a")).row
    backends: list[int] = []

    async def save() -> None:
        async with store.refresh_lock("posthog") as lock:
            connection = lock._lock.connection
            backends.append(await connection.fetchval("SELECT pg_backend_pid()"))
            await connection.execute("SET default_transaction_read_only = on")
            await lock.save(row, "b")

    with pytest.raises(Unavailable, match="PostgreSQL is not available"):
        await save()

    async def is_closed() -> bool:
        async with postgres.acquire() as connection:
            return not await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE pid = $1", backends[0]
            )

    await eventually(is_closed)


@pytest.fixture(params=["memory", "postgres"])
def authorizations(request: pytest.FixtureRequest) -> AuthorizationStore:
    if request.param == "memory":
        return MemoryAuthorizations()
    return AuthorizationStore(request.getfixturevalue("postgres"))


async def test_an_authorization_is_returned_once_and_deleted_when_it_expired(
    authorizations: AuthorizationStore,
) -> None:
    store = authorizations
    waiting = PendingAuthorization("sealed", START + timedelta(minutes=10))
    await store.add("a", "posthog", waiting, START)
    assert await store.take("a", "another") is None
    assert await store.take("b", "posthog") is None
    results = await asyncio.gather(store.take("a", "posthog"), store.take("a", "posthog"))
    assert sorted(results, key=bool) == [None, waiting]
    later = PendingAuthorization("sealed later", START + timedelta(minutes=20))
    await store.add("c", "posthog", later, START)
    await store.add("a", "posthog", waiting, START)
    await store.add("b", "posthog", waiting, waiting.expires_at)
    assert await store.take("a", "posthog") is None
    assert await store.take("b", "posthog") == waiting
    assert await store.take("c", "posthog") == later

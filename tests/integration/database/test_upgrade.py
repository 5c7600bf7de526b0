"""Migrations keep existing rows, and services of the previous version continue to work."""

from __future__ import annotations

import asyncio
import re
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import asyncpg
import pytest
from structlog.testing import capture_logs

from hogsend.contract.errors import CannotStart, Unavailable
from hogsend.contract.events import ListEvents
from hogsend.contract.identity import contact_email, fold_email
from hogsend.contract.users import User
from hogsend.service import migrations as migrations_module
from hogsend.service import postgres_server
from hogsend.service.database import Database
from hogsend.service.health import check_database
from hogsend.service.migrations import MigrationFailed, migrate
from hogsend.service.postgres_address import PostgresAddress
from services.credentials.payload_sealer import PayloadSealer
from services.credentials.sealing import Sealer
from services.credentials.store import CredentialStore
from services.ingest.contacts.contact import Key
from services.ingest.contacts.lookup import ContactStore
from services.ingest.contacts.storage import digest
from services.ingest.event_table.upkeep import EventTable
from services.ingest.events.listing import EventList
from services.ingest.events.outcome import Saved, Status
from services.ingest.events.store import EventStore
from services.ingest.incoming_event import EventRef, IncomingEvent
from tests.integration.harness import SEALING_SECRET
from tests.older_schema import migrate_to

SERVICES = Path(__file__).parents[3] / "services"
WITH_DATABASE = (User.CREDENTIALS, User.INGEST, User.PROVISIONER, User.ANALYTICS)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
CONTACT = UUID("00000000-0000-0000-0000-000000000001")

ALLOWED_STATEMENTS = {"0020_events_in_partitions.sql": ["RENAME", "DROP"]}
"""Statements of migrations that rename or drop. Here the old table becomes a partition of `events`;
`test_unpartitioned` tests that services of the previous version still work with it."""

# Rows that the first version of each service wrote to tables that later versions read.
ROWS = {
    User.INGEST: f"""
        INSERT INTO ingest.contacts (id, source, external_id, email, properties, versions,
            created_at, first_seen_at, last_seen_at)
        VALUES ('{CONTACT}', 'posthog', 'u_1', 'ada@example.com', '{{"plan": "pro"}}', '{{}}',
            '2026-01-01', '2026-01-01', '2026-01-01');
        INSERT INTO ingest.contact_keys VALUES ('external', sha256('u_1'), 'u_1', '{CONTACT}');
        INSERT INTO ingest.events VALUES ('posthog', 'old-1', 'signed_up', 'u_1', '{CONTACT}',
            '{{"a": 1}}', '2026-01-01', '2026-01-01', NULL);
    """,  # noqa: S608
    User.CREDENTIALS: """
        INSERT INTO credentials.provider_credentials (provider_id, kind, payload)
        VALUES ('posthog', 'derived', '{payload}');
        INSERT INTO credentials.provider_versions (provider_id, version, change, changed_kinds)
        VALUES ('posthog', 5, 'stored', ARRAY['derived']);
    """,
}


def migrations(service: User) -> list[Path]:
    return sorted((SERVICES / service / "migrations").glob("*.sql"))


def database(url: str, service: User, directory: Path) -> Database:
    return Database(url, service.value, directory, pool_size=2)


async def tables(url: str, schema: str) -> dict[str, list[dict[str, Any]]]:
    """Return all rows of all tables except `schema_migrations`."""
    connection = await asyncpg.connect(url)
    try:
        names = await connection.fetch(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = $1", schema
        )
        return {
            name: [dict(row) for row in await connection.fetch(f"SELECT * FROM {schema}.{name}")]  # noqa: S608
            for (name,) in names
            if name != "schema_migrations"
        }
    finally:
        await connection.close()


@pytest.mark.parametrize("service", WITH_DATABASE)
def test_migrations_are_numbered_forward_only_and_remove_nothing(service: User) -> None:
    numbers = [int(re.split(r"[_.]", file.name)[0]) for file in migrations(service)]
    assert numbers == list(range(1, len(numbers) + 1))
    for file in migrations(service):
        text = file.read_text()
        assert text.rpartition("-- migrate:down\n")[2].strip() == "-- Forward only.", file
        # Services of the previous version must still be able to read and write. Dropping an index
        # makes them slower at most, and dropping a constraint does not affect their writes.
        removed = re.findall(
            r"\b(DROP(?! INDEX| CONSTRAINT)|RENAME|SET NOT NULL|ALTER COLUMN \w+ TYPE)\b", text
        )
        assert removed == ALLOWED_STATEMENTS.get(file.name, []), file


@pytest.mark.parametrize("service", [User.INGEST, User.CREDENTIALS])
async def test_every_older_schema_with_rows_is_upgraded(
    service: User, database_url: str, tmp_path: Path
) -> None:
    files = migrations(service)
    assert len(files) > 1
    for applied in range(1, len(files)):
        await migrate_to(database_url, service, files[0].parent, applied, tmp_path)
        if applied == 1:
            await insert_rows(database_url, service)
        before = await tables(database_url, service.value)

        for _ in range(2):
            await migrate(PostgresAddress.parse(database_url), service, files[0].parent)
        after = await tables(database_url, service.value)
        for name, rows in before.items():
            remaining = (
                [{key: row[key] for key in rows[0]} for row in after[name]] if rows else rows
            )
            assert remaining == rows, name


async def insert_rows(url: str, service: User) -> None:
    payload = Sealer(SEALING_SECRET).seal(b'{"webhookSecret":"of-an-older-version"}')
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(ROWS[service].replace("{payload}", payload))
    finally:
        await connection.close()


async def open_upgraded(url: str, service: User, directory: Path) -> Database:
    """Create a database of the first version, with rows; open it with the current version."""
    await migrate_to(url, service, SERVICES / service / "migrations", 1, directory)
    await insert_rows(url, service)
    opened = database(url, service, migrations(service)[0].parent)
    await opened.connect()
    return opened


async def test_ingest_works_with_rows_of_the_first_version(
    database_url: str, tmp_path: Path
) -> None:
    opened = await open_upgraded(database_url, User.INGEST, tmp_path)
    store = EventStore(opened, EventTable(opened))
    again = IncomingEvent(
        ref=EventRef("posthog", "old-1"),
        name="signed_up",
        user_id="u_1",
        email=None,
        occurred_at=NOW,
        received_at=NOW,
        properties={},
        person_properties={},
        correlation_id=None,
    )
    (outcome,) = await store.save([again])
    assert isinstance(outcome, Saved)
    assert outcome.status is not Status.STORED
    page = await EventList(opened).page(ListEvents())
    assert [(event.id, event.contact_key) for event in page.events] == [("old-1", "u_1")]
    async with opened.acquire() as connection:
        # The migration does not set `stored_at` of existing events to the current time.
        assert await connection.fetchval("SELECT stored_at FROM events") is None
    await opened.close()


async def test_emails_of_the_first_version_become_normalized_contact_keys(
    database_url: str, tmp_path: Path
) -> None:
    """Spellings of an address become one contact; placeholders are not keys."""
    await migrate_to(database_url, User.INGEST, SERVICES / "ingest/migrations", 1, tmp_path)
    connection = await asyncpg.connect(database_url)
    ids = [UUID(int=number) for number in range(2, 9)]
    user_ids = [None, None, "u_2", None, "null", None, None]
    emails = [
        "mara@example.com",
        "\ufeffMara@Example.com",
        "Zoe@x.org",
        "zoe@x.org",
        "k@x.org",
        "n/a",
        "'\u200bMara@Example.com\u200b'",
    ]
    for id, user_id, email in zip(ids, user_ids, emails, strict=True):
        await connection.execute(
            "INSERT INTO ingest.contacts (id, source, external_id, email, properties, versions, "
            "created_at, first_seen_at, last_seen_at) VALUES ($1, 'hogsend', $2, $3, "
            "jsonb_build_object($4::text, 1), '{}', now(), now(), now())",
            *(id, user_id, email, str(id.int)),
        )
        for kind, value in (("external", user_id), ("email", email)):
            if value:
                await connection.execute(
                    "INSERT INTO ingest.contact_keys VALUES ($1, $2, $3, $4)",
                    *(kind, digest(Key(kind, value)), value, id),
                )
    opened = database(database_url, User.INGEST, migrations(User.INGEST)[0].parent)
    await opened.connect()
    store = ContactStore(opened)
    mara = await store.find("MARA@example.com ")
    assert (mara.contact_key, set(mara.properties)) == (str(ids[0]), {"2", "3", "8"})
    for merged in (ids[1], ids[6]):
        assert (await store.find(str(merged))).contact_key == str(ids[0])
    assert set((await store.find("zoe@x.org")).properties) == {"4", "5"}
    assert (await store.find("u_2")).contact_key == "u_2"
    assert (await store.find("k@x.org")).contact_key == str(ids[4])
    for placeholder in ("null", "n/a"):
        assert (await store.find(placeholder)).contact_key is None
    assert (await store.find(str(ids[5]))).contact_key == str(ids[5])
    await opened.close()
    await connection.close()


SPELLINGS = [
    *("ada@example.com", " Ada@Example.com\ufeff", "'ada@example.com'", '" ada@example.com "'),
    *("`'\u200bada@example.com\u200b'`", "\u2060ada@example.com\u200d", "<ada@example.com>"),
    *("Ada L. <ada@example.com>", "mailto:ada@example.com?subject=hi", "'mailto:ADA@example.com'"),
    *("''''ada@example.com''''", "'ada@example.com", "ada@example.com>", "<>", "'", "n/a", "''"),
]


async def test_keys_of_the_first_version_are_the_address_that_is_in_them(
    database_url: str, tmp_path: Path
) -> None:
    await migrate_to(database_url, User.INGEST, SERVICES / "ingest/migrations", 1, tmp_path)
    connection = await asyncpg.connect(database_url, server_settings={"search_path": "ingest"})
    # Each contact has a user id, so that none is merged into another.
    for number, text in enumerate(SPELLINGS):
        await connection.execute(
            "INSERT INTO contacts (id, source, external_id, email, properties, versions, "
            "created_at, first_seen_at, last_seen_at) "
            "VALUES ($1, 'hogsend', $2, $3, '{}', '{}', $4, $4, $4)",
            *(UUID(int=number), f"u_{number}", text, NOW + timedelta(seconds=number)),
        )
        await connection.execute(
            "INSERT INTO contact_keys VALUES ('email', $1, $2, $3)",
            *(digest(Key("email", text)), text, UUID(int=number)),
        )
    await migrate_to(database_url, User.INGEST, SERVICES / "ingest/migrations", 6, tmp_path)
    addresses = {contact_email(text) for text in SPELLINGS}
    rows = await connection.fetch("SELECT value, digest, contact_id FROM contact_keys")
    assert {row["value"] for row in rows} == addresses - {None}
    for row in rows:
        assert row["digest"] == digest(Key("email", row["value"]))
        owner = next(text for text in SPELLINGS if contact_email(text) == row["value"])
        assert row["contact_id"] == UUID(int=SPELLINGS.index(owner))
    emails = await connection.fetch("SELECT email FROM contacts ORDER BY id")
    assert [row["email"] for row in emails] == [
        contact_email(text) or fold_email(text) for text in SPELLINGS
    ]
    await connection.close()


async def test_a_migration_removes_personal_data_from_undone_merges(
    database_url: str, tmp_path: Path
) -> None:
    migrations = SERVICES / "ingest/migrations"
    await migrate_to(database_url, User.INGEST, migrations, 20, tmp_path)
    connection = await asyncpg.connect(database_url, server_settings={"search_path": "ingest"})
    for split_at in (None, datetime(2026, 1, 1, tzinfo=UTC)):
        await connection.execute(
            """INSERT INTO contact_merges
                (loser, survivor, loser_before, survivor_before, loser_keys, split_at)
            VALUES (gen_random_uuid(), gen_random_uuid(), '{"email": "ada@b.com"}',
                '{"email": "ada@b.com"}', '[{"kind": "email", "value": "ada@b.com"}]', $1)""",
            split_at,
        )
    await migrate_to(database_url, User.INGEST, migrations, 21, tmp_path)
    rows = await connection.fetch("SELECT merge::text FROM contact_merges AS merge ORDER BY id")
    assert [row["merge"].count("ada@b.com") for row in rows] == [3, 0]
    await connection.close()


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        (
            "CREATE TABLE ingest.created (id int); SELECT nothing FROM ingest.created",
            "does not exist",
        ),
        ("INSERT INTO ingest.contact_keys VALUES ('external', '', 'u', NULL)", "null value"),
    ],
    ids=["statement", "rows"],
)
async def test_a_migration_that_fails_permanently_is_not_retried(
    database_url: str, tmp_path: Path, sql: str, reason: str
) -> None:
    for file in migrations(User.INGEST):
        shutil.copy(file, tmp_path)
    last = tmp_path / "9000_broken.sql"
    last.write_text(f"-- migrate:up\n{sql};\n\n-- migrate:down\n")
    opened = database(database_url, User.INGEST, tmp_path)
    with pytest.raises(CannotStart, match=f"schema ingest failed: 9000_broken.sql: .*{reason}"):
        await opened.keep_connected()
    # The failed migration was rolled back, so its corrected version can be applied.
    last.write_text("-- migrate:up\nCREATE TABLE ingest.created (id int);\n")
    await opened.connect()
    assert (await check_database(opened))[1].pending == []
    await opened.close()


LIMITS = ("statement_timeout", "lock_timeout", "transaction_timeout")


async def test_time_limits_of_the_address_do_not_apply_to_migrations(
    database_url: str, tmp_path: Path
) -> None:
    (tmp_path / "1_limits.sql").write_text(
        "-- migrate:up\nCREATE TABLE ingest.limits AS SELECT name, setting FROM pg_settings;\n"
    )
    separator = "&" if "?" in database_url else "?"
    options = "%20".join(f"-c%20{name}%3D1h" for name in LIMITS)
    address = PostgresAddress.parse(f"{database_url}{separator}options={options}")
    await migrate(address, "ingest", tmp_path)
    connection = await asyncpg.connect(database_url)
    rows = await connection.fetch(
        "SELECT setting FROM ingest.limits WHERE name = ANY($1::text[])", LIMITS
    )
    assert [row["setting"] for row in rows] == ["0", "0", "0"]
    await connection.close()


async def test_a_database_of_another_encoding_is_refused(database_url: str, tmp_path: Path) -> None:
    owner = await asyncpg.connect(database_url)
    await owner.execute("CREATE DATABASE ascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    try:
        address = urlunsplit(urlsplit(database_url)._replace(path="/ascii"))
        with pytest.raises(CannotStart, match="database ascii has the encoding SQL_ASCII: Hogsend"):
            await database(address, User.CREDENTIALS, tmp_path).connect()
    finally:
        await owner.execute("DROP DATABASE ascii WITH (FORCE)")
        await owner.close()


async def test_a_server_that_is_too_old_is_refused(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_server, "MIN_VERSION", 99)
    with pytest.raises(CannotStart, match=r"PostgreSQL \d\d is too old: Hogsend needs 99 or newer"):
        await database(database_url, User.CREDENTIALS, tmp_path).connect()


async def test_a_migration_that_fails_for_a_temporary_reason_is_retried(
    database_url: str, tmp_path: Path
) -> None:
    """A deadlock with a replica of the previous version is such a reason."""
    (tmp_path / "1_deadlock.sql").write_text(
        "-- migrate:up\nDO $$ BEGIN RAISE deadlock_detected; END $$;\n"
    )
    with pytest.raises(MigrationFailed):
        await migrate(PostgresAddress.parse(database_url), "ingest", tmp_path)
    opened = database(database_url, User.INGEST, tmp_path)
    with pytest.raises(Unavailable):
        await opened._open()


async def test_a_schema_of_a_newer_version_is_used_and_its_migrations_are_logged(
    database_url: str, tmp_path: Path
) -> None:
    (*older, newest) = migrations(User.INGEST)
    for file in older:
        shutil.copy(file, tmp_path)
    await migrate(PostgresAddress.parse(database_url), User.INGEST, newest.parent)
    opened = database(database_url, User.INGEST, tmp_path)
    with capture_logs() as logs:
        await opened.connect()
    version = newest.name.partition("_")[0]
    assert [log["migrations"] for log in logs if "newer version" in log["event"]] == [[version]]
    await opened.close()


async def test_replicas_that_start_at_the_same_time_migrate_once(database_url: str) -> None:
    directory = migrations(User.INGEST)[0].parent
    address = PostgresAddress.parse(database_url)
    await asyncio.gather(*(migrate(address, User.INGEST, directory) for _ in range(4)))


async def test_a_frozen_migration_blocks_the_other_replicas_only_for_a_while(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_server, "IDLE_IN_TRANSACTION_SECONDS", 0.2)
    directory = migrations(User.INGEST)[0].parent
    address = PostgresAddress.parse(database_url)
    apply, is_frozen = migrations_module._apply, asyncio.Event()

    async def freeze(connection: Any, schema: str, migration: Any) -> None:
        await apply(connection, schema, migration)
        is_frozen.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as patched:
        patched.setattr(migrations_module, "_apply", freeze)
        frozen = asyncio.create_task(migrate(address, User.INGEST, directory))
        await is_frozen.wait()
    await migrate(address, User.INGEST, directory)
    frozen.cancel()
    await asyncio.wait({frozen})


async def test_credentials_decrypts_payloads_of_the_first_version(
    database_url: str, tmp_path: Path
) -> None:
    opened = await open_upgraded(database_url, User.CREDENTIALS, tmp_path)
    stored = await CredentialStore(opened).load("posthog")
    payload = PayloadSealer(Sealer(SEALING_SECRET)).derived(stored.rows).payload
    assert payload is not None
    assert payload.webhook_secret == "of-an-older-version"
    assert stored.version == 5
    await opened.close()

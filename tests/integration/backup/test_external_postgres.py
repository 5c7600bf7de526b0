"""A dump is loaded into PostgreSQL of any supported version, completely or not at all."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from cli.backup import external_postgres, postgres_tools
from cli.errors import CommandError
from tests.servers import Servers
from tests.waiting import eventually

ROWS = 20_000
TABLES = """
CREATE SCHEMA ingest;
CREATE TABLE ingest.first (id int PRIMARY KEY, text text);
INSERT INTO ingest.first SELECT id, repeat('x', 100) FROM generate_series(1, 20000) AS id;
CREATE TABLE ingest.last AS TABLE ingest.first;
"""
COUNTED = "SELECT (SELECT count(*) FROM ingest.first) + (SELECT count(*) FROM ingest.last)"

RUNNING_PSQL = (
    "SELECT 1 FROM pg_stat_activity"
    " WHERE datname = current_database() AND application_name = 'psql'"
)
WAITS_FOR_ADVISORY_LOCK = "wait_event_type = 'Lock' AND wait_event = 'advisory'"
HOLD_AT_CREATE_TABLE = """
CREATE FUNCTION hold() RETURNS event_trigger LANGUAGE plpgsql
AS $$ BEGIN PERFORM pg_advisory_xact_lock(1); END $$;
CREATE EVENT TRIGGER hold ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION hold();
SELECT pg_advisory_lock(1);
"""
RESTORE = """
import pathlib, sys
from cli.backup import external_postgres
external_postgres.restore(pathlib.Path(sys.argv[1]), sys.argv[2])
"""


async def dump_of(url: str, file: Path) -> Path:
    """Fill the database, dump it to `file`, and return `file`."""
    rows = await asyncpg.connect(url)
    await rows.execute(TABLES)
    await rows.close()
    await asyncio.to_thread(postgres_tools.run, postgres_tools.DUMP, url, f"--file={file}")
    return file


async def test_a_dump_is_loaded_completely(
    servers: Servers, database_url: str, tmp_path: Path
) -> None:
    dump = await dump_of(database_url, tmp_path / "dump")
    async with servers.fresh_database() as other:
        await asyncio.to_thread(external_postgres.restore, dump, other)
        rows = await asyncpg.connect(other)
        assert await rows.fetchval(COUNTED) == 2 * ROWS
        await rows.close()


async def test_transaction_timeout_is_disabled_only_on_servers_that_have_the_setting(
    database_url: str, tmp_path: Path
) -> None:
    dump = await dump_of(database_url, tmp_path / "dump")
    command = [postgres_tools.find_tool("pg_restore"), "--file=-", str(dump)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=True)
    # pg_restore of PostgreSQL 17 and newer writes this line. A version without it needs no change.
    assert b"\nSET transaction_timeout = 0;\n" in done.stdout
    script = b"".join(external_postgres.for_any_version(io.BytesIO(done.stdout)))
    before, _, after = done.stdout.partition(b"SET transaction_timeout = 0;\n")
    assert b"transaction_timeout = " not in script
    assert script.startswith(before)
    assert script.endswith(after)
    (replacement,) = script[len(before) : -len(after)].splitlines()
    rows = await asyncpg.connect(database_url)
    await rows.execute("SET transaction_timeout = '1h'")
    await rows.execute(replacement.decode())
    assert await rows.fetchval("SHOW transaction_timeout") == "0"
    # An older server does not have the setting, and the statement changes nothing.
    await rows.execute(replacement.decode().replace("'transaction_timeout'", "'no_such_timeout'"))
    await rows.close()


async def test_a_truncated_dump_leaves_no_schema(
    servers: Servers, database_url: str, tmp_path: Path
) -> None:
    dump = await dump_of(database_url, tmp_path / "dump")
    whole = dump.read_bytes()
    dump.write_bytes(whole[: len(whole) * 3 // 4])
    async with servers.fresh_database() as other:
        with pytest.raises(CommandError, match=r"^pg_restore failed:"):
            await asyncio.to_thread(external_postgres.restore, dump, other)
        rows = await asyncpg.connect(other)
        assert await rows.fetchval("SELECT to_regnamespace('ingest')") is None
        await rows.close()


async def test_a_dump_that_the_server_refuses_leaves_no_table(
    servers: Servers, database_url: str, tmp_path: Path
) -> None:
    dump = await dump_of(database_url, tmp_path / "dump")
    async with servers.fresh_database() as other:
        rows = await asyncpg.connect(other)
        await rows.execute("CREATE SCHEMA ingest")
        with pytest.raises(CommandError, match=r"^psql failed:(.|\n)*already exists"):
            await asyncio.to_thread(external_postgres.restore, dump, other)
        assert await rows.fetchval("SELECT to_regclass('ingest.first')") is None
        await rows.close()


async def test_a_killed_restore_leaves_no_schema(
    servers: Servers, database_url: str, tmp_path: Path
) -> None:
    dump = await dump_of(database_url, tmp_path / "dump")
    async with servers.fresh_database() as other:
        rows = await asyncpg.connect(other)
        await rows.execute(HOLD_AT_CREATE_TABLE)
        arguments = (sys.executable, "-c", RESTORE, str(dump), other)
        restoring = await asyncio.create_subprocess_exec(*arguments)
        await eventually(
            lambda: rows.fetchval(f"SELECT EXISTS ({RUNNING_PSQL} AND {WAITS_FOR_ADVISORY_LOCK})")
        )
        restoring.kill()
        await restoring.wait()
        # psql continues with its input until the end, which is now in the middle of a row.
        await rows.execute("SELECT pg_advisory_unlock(1)")
        await eventually(lambda: rows.fetchval(f"SELECT NOT EXISTS ({RUNNING_PSQL})"))
        assert await rows.fetchval("SELECT to_regnamespace('ingest')") is None
        await rows.close()

"""A dump is loaded into a PostgreSQL of whatever version, all of it or nothing."""

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

PSQL = (
    "SELECT 1 FROM pg_stat_activity"
    " WHERE datname = current_database() AND application_name = 'psql'"
)
WAITS = "wait_event_type = 'Lock' AND wait_event = 'advisory'"
HOLD = """
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
    rows = await asyncpg.connect(url)
    await rows.execute(TABLES)
    await rows.close()
    await asyncio.to_thread(postgres_tools.run, postgres_tools.DUMP, url, f"--file={file}")
    return file


async def test_a_dump_is_loaded(servers: Servers, database_url: str, tmp_path: Path) -> None:
    dump = await dump_of(database_url, tmp_path / "dump")
    async with servers.fresh_database() as other:
        await asyncio.to_thread(external_postgres.restore, dump, other)
        rows = await asyncpg.connect(other)
        assert await rows.fetchval(COUNTED) == 2 * ROWS
        await rows.close()


async def test_a_setting_that_older_servers_lack_is_set_where_it_is_known(
    database_url: str, tmp_path: Path
) -> None:
    dump = await dump_of(database_url, tmp_path / "dump")
    command = [postgres_tools.find_tool("pg_restore"), "--file=-", str(dump)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=True)
    # As tools of PostgreSQL 17 and newer begin; if they ever do not, nothing has to be done.
    assert b"\nSET transaction_timeout = 0;\n" in done.stdout
    given = b"".join(external_postgres.for_any_version(io.BytesIO(done.stdout)))
    before, _, after = done.stdout.partition(b"SET transaction_timeout = 0;\n")
    assert b"transaction_timeout = " not in given
    assert given.startswith(before)
    assert given.endswith(after)
    (instead,) = given[len(before) : -len(after)].splitlines()
    rows = await asyncpg.connect(database_url)
    await rows.execute("SET transaction_timeout = '1h'")
    await rows.execute(instead.decode())
    assert await rows.fetchval("SHOW transaction_timeout") == "0"
    # A server that is older has no such row.
    await rows.execute(instead.decode().replace("'transaction_timeout'", "'no_such_timeout'"))
    await rows.close()


async def test_nothing_stays_of_a_dump_that_ends_too_soon(
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


async def test_nothing_stays_of_a_dump_that_the_server_refuses(
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


async def test_nothing_stays_where_the_restore_is_killed(
    servers: Servers, database_url: str, tmp_path: Path
) -> None:
    dump = await dump_of(database_url, tmp_path / "dump")
    async with servers.fresh_database() as other:
        rows = await asyncpg.connect(other)
        await rows.execute(HOLD)
        arguments = (sys.executable, "-c", RESTORE, str(dump), other)
        restoring = await asyncio.create_subprocess_exec(*arguments)
        await eventually(lambda: rows.fetchval(f"SELECT EXISTS ({PSQL} AND {WAITS})"))
        restoring.kill()
        await restoring.wait()
        # Its psql goes on with what it was given, and finds the end of that in the middle of a row.
        await rows.execute("SELECT pg_advisory_unlock(1)")
        await eventually(lambda: rows.fetchval(f"SELECT NOT EXISTS ({PSQL})"))
        assert await rows.fetchval("SELECT to_regnamespace('ingest')") is None
        await rows.close()

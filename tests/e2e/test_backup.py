"""A stack is backed up while it runs, and comes back whole on an empty machine."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from dotenv import dotenv_values

import hogsend
from cli.stack import nats
from cli.stack.data_directory import DataDirectory
from cli.stack.environment import minimal_environment
from cli.stack.postgres import BINARIES, EmbeddedPostgres
from cli.stack.supervisor import Program, Supervisor
from hogsend.contract.users import User
from tests.chaos.faults import stored_ids
from tests.ports import free_port
from tests.running_stack import PYTHONPATH, Up, up
from tests.waiting import eventually

SECRET = "s" * 40


async def post(stack: Up, id: str) -> None:
    assert await stack.post(id) == 200


async def streams(*arguments: str, url: str) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli.main", "streams", *arguments, "--json"),
        env={**os.environ, "PYTHONPATH": PYTHONPATH, "NATS_URL": url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complained = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, complained.decode()
    told: dict[str, Any] = json.loads(said)
    return told


def postgres(program: str, socket: str, *arguments: str) -> None:
    command = [str(BINARIES / program), "-h", socket, "-U", "postgres", *arguments]
    subprocess.run(command, check=True, capture_output=True)


async def read_three(url: str) -> None:
    """Three events, of which two are done: the third is when the next one is asked for."""
    seen = 0
    async with hogsend.connect(url) as bus:
        async for _event in bus.events(durable="reader"):
            seen += 1
            if seen == 3:
                return


async def position(url: str) -> int:
    """How far the subscriber's consumer is: the stream position up to which all is done."""
    async with hogsend.connect(url, user=User.OPERATOR) as bus:
        floor = (await bus.connection.js.consumer_info("EVENTS", "reader")).ack_floor
    assert floor is not None
    return int(floor.stream_seq)


def operator(home: Path) -> str:
    return str(dotenv_values(home / "operator.env")["NATS_URL"])


@asynccontextmanager
async def empty_servers(home: DataDirectory, port: int) -> AsyncIterator[tuple[str, str]]:
    """NATS and PostgreSQL of a new machine before any service runs there."""
    supervisor = Supervisor(home.logs, lambda _name, _what: None)
    config, database = home.path / "nats.conf", EmbeddedPostgres(home.path / "postgres")
    passwords = {user: home.secret(f"nats-{user}") for user in User}
    nats.write_config(config, port=port, store=home.path / "nats", passwords=passwords)
    await asyncio.to_thread(database.prepare)
    await supervisor.start(Program("nats", nats.command(config), minimal_environment()))
    await supervisor.start(database.program)
    try:
        await eventually(database.ready, 60)
        url = nats.url(User.OPERATOR, passwords[User.OPERATOR], port)
        yield url, str(database.sockets)
    finally:
        await supervisor.stop()


@pytest.mark.timeout(240)
async def test_a_backup_of_a_running_stack_comes_back_on_an_empty_machine(tmp_path: Path) -> None:
    saved, dump = tmp_path / "backup", tmp_path / "hogsend.dump"
    async with up(tmp_path / "old", tmp_path, POSTHOG_WEBHOOK_SECRET="") as stack:
        for number in range(5):
            await post(stack, f"stored-{number}")
        await eventually(lambda: _count(stack, 5))
        await read_three(stack.nats_url)
        await eventually(lambda: _is_at(operator(stack.home), 2))
        # As the document says: what is accepted from here on waits in the streams.
        ingest = stack.child("ingest")
        ingest.suspend()
        await post(stack, "waiting")
        told = await streams("backup", str(saved), url=operator(stack.home))
        messages = {one["stream"]: one["messages"] for one in told["streams"]}
        assert (messages["WEBHOOKS"], messages["EVENTS"]) == (1, 5)
        postgres("pg_dump", stack.postgres_socket, "-Fc", "-f", str(dump), "hogsend")
        ingest.resume()
        secrets = {file.name: file.read_text() for file in (stack.home / "secrets").iterdir()}

    home, port = DataDirectory(tmp_path / "new"), free_port()
    for name, word in secrets.items():
        home.secret(name)
        home.secret_file(name).write_text(word)
    async with empty_servers(home, port) as (url, socket):
        told = await streams("restore", str(saved), url=url)
        assert {one["stream"]: one["messages"] for one in told["streams"]} == messages
        postgres("pg_restore", socket, "-d", "hogsend", str(dump))

    async with up(tmp_path / "new", tmp_path) as stack:
        wanted = [*(f"stored-{number}" for number in range(5)), "waiting"]
        # Ingest may have had the last one in hand: it comes again once its 30 s are over.
        await eventually(lambda: _count(stack, 6), 60)
        assert sorted(await stored_ids(stack)) == sorted(wanted)
        # A subscriber goes on where it was.
        assert await position(operator(stack.home)) == 2
        await post(stack, "after")
        await eventually(lambda: _count(stack, 7))


async def _is_at(url: str, wanted: int) -> bool:
    return await position(url) == wanted


async def _count(stack: Up, wanted: int) -> bool:
    return await stack.stored() == wanted


async def test_a_directory_without_a_backup_and_a_stream_that_exists_are_refused(
    tmp_path: Path,
) -> None:
    def run(*arguments: str, url: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "cli.main", "streams", *arguments],
            env={**os.environ, "PYTHONPATH": PYTHONPATH, "NATS_URL": url},
            capture_output=True,
            text=True,
            check=False,
        )

    refused = await asyncio.to_thread(run, "restore", str(tmp_path), url="nats://127.0.0.1:9")
    assert refused.returncode == 1
    assert "there is no backup in" in refused.stderr
    async with up(tmp_path / "home", tmp_path) as stack:
        url, saved = operator(stack.home), tmp_path / "saved"
        await streams("backup", str(saved), url=url)
        refused = await asyncio.to_thread(run, "restore", str(saved), url=url)
        assert refused.returncode == 1
        assert "already in use" in refused.stderr
        assert "fix: restore into a NATS without streams" in refused.stderr
        # Somebody who may only subscribe may not save anything.
        other = str(tmp_path / "other")
        refused = await asyncio.to_thread(run, "backup", other, url=stack.nats_url)
        assert refused.returncode == 1
        assert "operator" in refused.stderr

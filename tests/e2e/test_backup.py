"""A stack is backed up while it runs, and comes back whole on an empty machine."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from dotenv import dotenv_values

import hogsend
from hogsend.contract.streams import StreamName
from hogsend.contract.users import User
from tests.chaos.faults import stored_ids
from tests.running_stack import Up, environment, up
from tests.waiting import eventually

PASSPHRASE = "correct horse battery staple"


async def post(stack: Up, id: str) -> None:
    assert await stack.post(id) == 200


async def keep_posting(stack: Up, accepted: list[str]) -> None:
    """Post until cancelled; what was accepted is added to the list."""
    while True:
        id = f"loaded-{len(accepted)}"
        await post(stack, id)
        accepted.append(id)


async def command(*arguments: str, home: Path, directory: Path, **more: str) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli.main", *arguments, "--json"),
        env=environment(home, HOGSEND_BACKUP_PASSPHRASE=PASSPHRASE, **more),
        cwd=directory,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complained = await asyncio.wait_for(process.communicate(), 90)
    assert process.returncode == 0, said.decode() + complained.decode()
    told: dict[str, Any] = json.loads(said)
    return told


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


async def has_statistics(stack: Up) -> bool:
    """Whether PostgreSQL knows what its tables hold; few rows are not looked at by autovacuum."""
    connection = await asyncpg.connect(stack.postgres_url)
    try:
        found = "SELECT count(*) FROM pg_stats WHERE schemaname = 'ingest' AND tablename = $1"
        return bool(await connection.fetchval(found, "contacts"))
    finally:
        await connection.close()


def operator(home: Path) -> str:
    return str(dotenv_values(home / "operator.env")["NATS_URL"])


@pytest.mark.timeout(600)
async def test_a_backup_under_load_comes_back_on_an_empty_machine(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for directory in (old, new):
        directory.mkdir()
    (old / ".env").write_text("LOG_LEVEL=warning\n")
    saved = tmp_path / "backups" / "first"
    accepted: list[str] = []
    async with up(old / "home", old, POSTHOG_WEBHOOK_SECRET="") as stack:
        for number in range(5):
            await post(stack, f"stored-{number}")
        await eventually(lambda: _count(stack, 5))
        await read_three(stack.nats_url)
        await eventually(lambda: _is_at(operator(stack.home), 2))
        load = asyncio.create_task(keep_posting(stack, accepted))
        await eventually(lambda: _holds(accepted, 20))
        before = list(accepted)
        told = await command("backup", str(saved), home=stack.home, directory=old)
        load.cancel()
        assert not load.done() or not load.exception()
        secrets = {file.name: file.read_text() for file in (stack.home / "secrets").iterdir()}
    assert {one["stream"] for one in told["manifest"]["streams"]} == set(StreamName)
    assert "env" in told["manifest"]["files"]
    # Nobody else reads it, and nothing of it is legible.
    for path in (saved, *saved.iterdir()):
        assert path.stat().st_mode & 0o077 == 0
        assert path.is_dir() or not any(word.encode() in path.read_bytes() for word in secrets)
    assert list(saved.parent.iterdir()) == [saved]

    await command("restore", str(saved), home=new / "home", directory=new)
    assert (new / ".env").read_text() == "LOG_LEVEL=warning\n"
    assert {file.name: file.read_text() for file in (new / "home" / "secrets").iterdir()} == secrets
    async with up(new / "home", new) as stack:
        wanted = {*(f"stored-{number}" for number in range(5)), *before}
        # Ingest may have had some in hand: they come again once their 30 s are over.
        await eventually(lambda: _stores(stack, wanted), 60)
        # What came in later is there or not, but never twice.
        stored = await stored_ids(stack)
        assert len(stored) == await stack.stored()
        assert await has_statistics(stack)
        # A subscriber goes on where it was.
        assert await position(operator(stack.home)) == 2
        await post(stack, "after")
        await eventually(lambda: _stores(stack, {*wanted, "after"}))


async def _holds(accepted: list[str], wanted: int) -> bool:
    return len(accepted) >= wanted


async def _stores(stack: Up, wanted: set[str]) -> bool:
    return wanted <= set(await stored_ids(stack))


async def _is_at(url: str, wanted: int) -> bool:
    return await position(url) == wanted


async def _count(stack: Up, wanted: int) -> bool:
    return await stack.stored() == wanted

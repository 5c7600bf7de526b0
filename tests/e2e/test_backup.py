"""A stack is backed up while it runs, and restored on an empty machine."""

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
    """Post webhooks until cancelled; add the id of each accepted one to `accepted`."""
    while True:
        id = f"loaded-{len(accepted)}"
        await post(stack, id)
        accepted.append(id)


async def command(*arguments: str, home: Path, directory: Path) -> dict[str, Any]:
    """Run a `hogsend` command, and return its JSON output."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli.main", *arguments, "--json"),
        env=environment(home, HOGSEND_BACKUP_PASSPHRASE=PASSPHRASE),
        cwd=directory,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await asyncio.wait_for(process.communicate(), 90)
    assert process.returncode == 0, output.decode() + errors.decode()
    result: dict[str, Any] = json.loads(output)
    return result


async def read_three(url: str) -> None:
    """Receive three events and acknowledge two: the next call would acknowledge the third."""
    received = 0
    async with hogsend.connect(url) as bus:
        async for _event in bus.events(durable="reader"):
            received += 1
            if received == 3:
                return


async def ack_floor(url: str) -> int:
    """Return the stream sequence up to which the subscriber's consumer has acknowledged all."""
    async with hogsend.connect(url, user=User.OPERATOR) as bus:
        floor = (await bus.connection.js.consumer_info("EVENTS", "reader")).ack_floor
    assert floor is not None
    return int(floor.stream_seq)


async def has_statistics(stack: Up) -> bool:
    """Whether PostgreSQL has planner statistics; autovacuum analyzes no table this small."""
    connection = await asyncpg.connect(stack.postgres_url)
    try:
        query = "SELECT count(*) FROM pg_stats WHERE schemaname = 'ingest' AND tablename = $1"
        return bool(await connection.fetchval(query, "contacts"))
    finally:
        await connection.close()


def operator(home: Path) -> str:
    return str(dotenv_values(home / "operator.env")["NATS_URL"])


@pytest.mark.timeout(600)
async def test_a_backup_made_under_load_is_restored_on_an_empty_machine(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for directory in (old, new):
        directory.mkdir()
    (old / ".env").write_text("LOG_LEVEL=warning\n")
    saved = tmp_path / "backups" / "first"
    accepted: list[str] = []
    async with up(old / "home", old, POSTHOG_WEBHOOK_SECRET="") as stack:
        for number in range(5):
            await post(stack, f"stored-{number}")
        await eventually(lambda: _stores_count(stack, 5))
        await read_three(stack.nats_url)
        await eventually(lambda: _is_at(operator(stack.home), 2))
        load = asyncio.create_task(keep_posting(stack, accepted))
        await eventually(lambda: _has_at_least(accepted, 20))
        before = list(accepted)
        result = await command("backup", str(saved), home=stack.home, directory=old)
        load.cancel()
        assert not load.done() or not load.exception()
        secrets = {file.name: file.read_text() for file in (stack.home / "secrets").iterdir()}
    assert {entry["stream"] for entry in result["manifest"]["streams"]} == set(StreamName)
    assert "env" in result["manifest"]["files"]
    # Only the owner may read the backup, and every file of it is encrypted.
    for path in (saved, *saved.iterdir()):
        assert path.stat().st_mode & 0o077 == 0
        if path.is_file():
            content = path.read_bytes()
            assert not any(secret.strip().encode() in content for secret in secrets.values())
    assert list(saved.parent.iterdir()) == [saved]

    await command("restore", str(saved), home=new / "home", directory=new)
    assert (new / ".env").read_text() == "LOG_LEVEL=warning\n"
    assert {file.name: file.read_text() for file in (new / "home" / "secrets").iterdir()} == secrets
    async with up(new / "home", new) as stack:
        posted = {*(f"stored-{number}" for number in range(5)), *before}
        # JetStream redelivers webhooks that ingest had not acknowledged after an ack wait of 30 s.
        await eventually(lambda: _has_stored(stack, posted), 60)
        # A webhook that was posted during the backup may be missing, but is not stored twice.
        stored = await stored_ids(stack)
        assert len(stored) == len(set(stored)) == await stack.stored()
        assert await has_statistics(stack)
        # A subscriber continues at its position.
        assert await ack_floor(operator(stack.home)) == 2
        await post(stack, "after")
        await eventually(lambda: _has_stored(stack, {*posted, "after"}))


async def _has_at_least(accepted: list[str], count: int) -> bool:
    return len(accepted) >= count


async def _has_stored(stack: Up, ids: set[str]) -> bool:
    return ids <= set(await stored_ids(stack))


async def _is_at(url: str, sequence: int) -> bool:
    return await ack_floor(url) == sequence


async def _stores_count(stack: Up, count: int) -> bool:
    return await stack.stored() == count

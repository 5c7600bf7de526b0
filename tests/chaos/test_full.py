"""What is full: the gateway's spool, JetStream's disk, and both bounds honoured."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import nats

from hogsend.contract.accounts import OWN
from hogsend.contract.permissions import inbox_prefix
from hogsend.contract.users import User
from tests.chaos.faults import kill, stored_ids
from tests.running_stack import Up, up
from tests.waiting import PATIENCE_SECONDS, eventually

PADDING = "x" * 8000
SECRET = "known-without-nats"
BOUND = 512 * 1024
SETTINGS = {"SPOOL_MAX_BYTES": str(BOUND), "POSTHOG_WEBHOOK_SECRET": SECRET}


async def post(stack: Up, id: str, padding: str = "") -> int:
    event = {"event": "signed_up", "distinct_id": "u_1", "uuid": id, "properties": {"p": padding}}
    headers = {"x-posthog-webhook-secret": SECRET}
    try:
        answer = await stack.http.post(
            "/v1/webhooks/posthog", json={"event": event}, headers=headers
        )
    except httpx.HTTPError:
        return 0
    return answer.status_code


async def fill(stack: Up, prefix: str, padding: str = PADDING) -> list[str]:
    """Post until it is refused; gives what was accepted, in order."""
    accepted: list[str] = []
    while (status := await post(stack, f"{prefix}-{len(accepted):05}", padding)) == 200:
        accepted.append(f"{prefix}-{len(accepted):05}")
        assert len(accepted) < 20_000
    assert status == 429
    return accepted


async def alive(stack: Up) -> bool:
    try:
        return (await stack.http.get("/livez")).is_success
    except httpx.HTTPError:
        return False


def spool_bytes(stack: Up) -> int:
    return sum(file.stat().st_size for file in (stack.home / "spool").rglob("*"))


async def test_a_full_spool_outlives_its_gateway_and_drains_in_order(tmp_path: Path) -> None:
    async with up(tmp_path / "home", tmp_path, **SETTINGS) as stack:
        assert await post(stack, "before") == 200
        await eventually(lambda: stored_one(stack))

        server, ingest = stack.child("nats"), stack.child("ingest")
        server.suspend()
        accepted = await fill(stack, "spooled")
        assert len(accepted) > 50
        # Half-empty pages and SQLite's journal, 1000 pages, come on top of what the bound counts.
        assert spool_bytes(stack) < 2 * BOUND + 5 * 1024 * 1024
        await kill("gateway", stack, None)  # type: ignore[arg-type]
        await eventually(lambda: alive(stack), 60)
        assert await post(stack, "still-full", PADDING) == 429
        # What reaches the stream is looked at before anybody takes it.
        ingest.suspend()
        server.resume()

        await eventually(lambda: in_stream(stack, accepted), 60)
        ingest.resume()
        await eventually(lambda: all_stored(stack, {"before", *accepted}), 60)
        assert sorted(await stored_ids(stack)) == sorted(["before", *accepted])
        await eventually(stack.is_healthy, 60)
        assert await post(stack, "after", PADDING) == 200


async def in_stream(stack: Up, wanted: list[str]) -> bool:
    """Whether the stream of webhooks holds these, in this order and nothing else."""
    password = (stack.home / "secrets" / "nats-operator").read_text().strip()
    port = urlsplit(stack.nats_url).port
    client = await nats.connect(
        f"nats://operator:{password}@127.0.0.1:{port}", inbox_prefix=inbox_prefix(User.OPERATOR)
    )
    try:
        js = client.jetstream(timeout=PATIENCE_SECONDS)
        state = (await js.stream_info("WEBHOOKS")).state
        if state.messages != len(wanted):
            return False
        found = [
            (await js.get_msg("WEBHOOKS", seq)).headers or {}
            for seq in range(state.first_seq, state.last_seq + 1)
        ]
    finally:
        await client.close()
    assert [headers["Nats-Msg-Id"].rpartition(":")[2] for headers in found] == wanted
    return True


async def all_stored(stack: Up, wanted: set[str]) -> bool:
    return set(await stored_ids(stack)) >= wanted


def limit_jetstream(stack: Up, size: int) -> int:
    """Let JetStream take so many bytes, and give how many it might take before."""
    file = stack.home / "nats.conf"
    config = json.loads(file.read_text())
    server, account = config["jetstream"], config["accounts"][OWN]["jetstream"]
    before = int(account["max_file"])
    server["max_file_store"] = account["max_file"] = size
    file.write_text(json.dumps(config))
    return before


async def test_a_full_disk_of_jetstream_loses_nothing(tmp_path: Path) -> None:
    async with up(tmp_path / "home", tmp_path, **SETTINGS) as stack:
        assert await post(stack, "before") == 200
        await eventually(lambda: stored_one(stack))
        before = limit_jetstream(stack, 2 * 1024 * 1024)
        await kill("nats", stack, None)  # type: ignore[arg-type]
        await eventually(stack.is_healthy, 60)

        accepted = await fill(stack, "full")
        # First JetStream, then the spool. How much JetStream takes is chance: an event lies there
        # twice, as a webhook and announced, until ingest has acknowledged it.
        assert len(accepted) * len(PADDING) > 2 * BOUND
        for name in ("gateway", "ingest"):
            await kill(name, stack, None)  # type: ignore[arg-type]
        await eventually(lambda: alive(stack), 60)

        limit_jetstream(stack, before)
        await kill("nats", stack, None)  # type: ignore[arg-type]
        await eventually(lambda: all_stored(stack, {"before", *accepted}), 120)
        stored = await stored_ids(stack)
        assert len(stored) == len(set(stored))
        await eventually(stack.is_healthy, 60)


async def stored_one(stack: Up) -> bool:
    return await stored_ids(stack) == ["before"]

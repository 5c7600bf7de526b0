"""No accepted event is lost while the gateway's spool or JetStream's storage is full."""

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
MAX_SPOOL_BYTES = 512 * 1024
SETTINGS = {"SPOOL_MAX_BYTES": str(MAX_SPOOL_BYTES), "POSTHOG_WEBHOOK_SECRET": SECRET}


async def post(stack: Up, id: str, padding: str = "") -> int:
    event = {"event": "signed_up", "distinct_id": "u_1", "uuid": id, "properties": {"p": padding}}
    headers = {"x-posthog-webhook-secret": SECRET}
    try:
        response = await stack.http.post(
            "/v1/webhooks/posthog", json={"event": event}, headers=headers
        )
    except httpx.HTTPError:
        return 0
    return response.status_code


async def fill(stack: Up, prefix: str, padding: str = PADDING) -> list[str]:
    """Post until the gateway responds with 429; return the ids of the accepted events, in order."""
    accepted: list[str] = []
    while (status := await post(stack, f"{prefix}-{len(accepted):05}", padding)) == 200:
        accepted.append(f"{prefix}-{len(accepted):05}")
        assert len(accepted) < 20_000
    assert status == 429
    return accepted


async def is_alive(stack: Up) -> bool:
    try:
        return (await stack.http.get("/livez")).is_success
    except httpx.HTTPError:
        return False


def spool_bytes(stack: Up) -> int:
    return sum(file.stat().st_size for file in (stack.home / "spool").rglob("*"))


async def test_a_full_spool_survives_a_kill_of_the_gateway_and_is_published_in_order(
    tmp_path: Path,
) -> None:
    async with up(tmp_path / "home", tmp_path, **SETTINGS) as stack:
        assert await post(stack, "before") == 200
        await eventually(lambda: has_first_event(stack))

        server, ingest = stack.child("nats"), stack.child("ingest")
        server.suspend()
        accepted = await fill(stack, "spooled")
        assert len(accepted) > 50
        # The limit does not count half-empty pages and SQLite's journal of 1000 pages.
        assert spool_bytes(stack) < 2 * MAX_SPOOL_BYTES + 5 * 1024 * 1024
        await kill("gateway", stack, None)  # type: ignore[arg-type]
        await eventually(lambda: is_alive(stack), 60)
        assert await post(stack, "still-full", PADDING) == 429
        # Ingest is frozen so that the test can read the stream before ingest empties it.
        ingest.suspend()
        server.resume()

        await eventually(lambda: in_stream(stack, accepted), 60)
        ingest.resume()
        await eventually(lambda: are_stored(stack, {"before", *accepted}), 60)
        assert sorted(await stored_ids(stack)) == sorted(["before", *accepted])
        await eventually(stack.is_healthy, 60)
        assert await post(stack, "after", PADDING) == 200


async def in_stream(stack: Up, expected: list[str]) -> bool:
    """Whether the stream WEBHOOKS contains exactly these events, in this order."""
    password = (stack.home / "secrets" / "nats-operator").read_text().strip()
    port = urlsplit(stack.nats_url).port
    client = await nats.connect(
        f"nats://operator:{password}@127.0.0.1:{port}", inbox_prefix=inbox_prefix(User.OPERATOR)
    )
    try:
        js = client.jetstream(timeout=PATIENCE_SECONDS)
        state = (await js.stream_info("WEBHOOKS")).state
        if state.messages != len(expected):
            return False
        stored = [
            (await js.get_msg("WEBHOOKS", seq)).headers or {}
            for seq in range(state.first_seq, state.last_seq + 1)
        ]
    finally:
        await client.close()
    assert [headers["Nats-Msg-Id"].rpartition(":")[2] for headers in stored] == expected
    return True


async def are_stored(stack: Up, expected: set[str]) -> bool:
    return set(await stored_ids(stack)) >= expected


def limit_jetstream(stack: Up, size: int) -> int:
    """Limit JetStream's storage to `size` bytes, and return the previous limit."""
    file = stack.home / "nats.conf"
    config = json.loads(file.read_text())
    server, account = config["jetstream"], config["accounts"][OWN]["jetstream"]
    before = int(account["max_file"])
    server["max_file_store"] = account["max_file"] = size
    file.write_text(json.dumps(config))
    return before


async def test_no_accepted_event_is_lost_while_the_storage_of_jetstream_is_full(
    tmp_path: Path,
) -> None:
    async with up(tmp_path / "home", tmp_path, **SETTINGS) as stack:
        assert await post(stack, "before") == 200
        await eventually(lambda: has_first_event(stack))
        before = limit_jetstream(stack, 2 * 1024 * 1024)
        await kill("nats", stack, None)  # type: ignore[arg-type]
        await eventually(stack.is_healthy, 60)

        accepted = await fill(stack, "full")
        # JetStream is full first, then the spool. How many events fit into JetStream varies: each
        # is stored twice, as a webhook and as an event, until ingest has acknowledged it.
        assert len(accepted) * len(PADDING) > 2 * MAX_SPOOL_BYTES
        for name in ("gateway", "ingest"):
            await kill(name, stack, None)  # type: ignore[arg-type]
        await eventually(lambda: is_alive(stack), 60)

        limit_jetstream(stack, before)
        await kill("nats", stack, None)  # type: ignore[arg-type]
        await eventually(lambda: are_stored(stack, {"before", *accepted}), 120)
        stored = await stored_ids(stack)
        assert len(stored) == len(set(stored))
        await eventually(stack.is_healthy, 60)


async def has_first_event(stack: Up) -> bool:
    return await stored_ids(stack) == ["before"]

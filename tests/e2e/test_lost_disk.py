"""NATS comes back without anything it kept, while every service runs on."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import hogsend
from hogsend.contract.errors import Unavailable
from tests.chaos.faults import kill, stored_ids
from tests.running_stack import Up, up
from tests.waiting import eventually

GRANT = {
    "accessToken": "pha_1",
    "refreshToken": "phr_1",
    "expiresAt": "2099-01-01T00:00:00Z",
    "tokenEndpoint": "https://eu.posthog.com/oauth/token/",
    "clientId": "https://hogsend.com/.well-known/hogsend-posthog-client.json",
    "scopes": ["person:read"],
}


def lose_the_disk(stack: Up) -> None:
    """The next nats-server finds an empty directory."""
    file = stack.home / "nats.conf"
    config = json.loads(file.read_text())
    config["jetstream"]["store_dir"] += "-new"
    file.write_text(json.dumps(config))


async def version(stack: Up) -> int:
    """What a subscriber who comes now is told of the credential."""
    async with hogsend.connect(stack.nats_url) as bus:
        return (await anext(bus.credential_changes("posthog"))).version


async def is_stored(stack: Up, id: str) -> bool:
    return id in await stored_ids(stack)


async def report(bus: hogsend.Client) -> bool:
    try:
        await bus.engagement.report(
            "email.opened", {"userId": "u_42", "to": "ada@example.com"}, id="opened"
        )
    except Unavailable:
        return False
    return True


async def test_everything_goes_on_when_nats_has_lost_its_disk(tmp_path: Path) -> None:
    async with up(tmp_path / "home", tmp_path) as stack:
        answer = await stack.http.put(
            "/v1/admin/provider-credentials/posthog",
            json={"payload": GRANT},
            headers=stack.admin,
        )
        assert answer.is_success, answer.text
        told = await asyncio.wait_for(version(stack), 60)
        assert await stack.post("before") == 200
        await eventually(lambda: is_stored(stack, "before"))

        heard: list[str] = []
        async with hogsend.connect(stack.app_url) as bus:
            listening = asyncio.create_task(listen(bus, heard))
            await eventually(lambda: "before" in heard)
            lose_the_disk(stack)
            await kill("nats", stack, None)  # type: ignore[arg-type]
            # Spooled, or in a stream that is there again: in any case accepted.
            assert await stack.post("meanwhile") == 200

            await eventually(lambda: is_stored(stack, "meanwhile"), 60)
            await eventually(lambda: "meanwhile" in heard, 60)
            await eventually(lambda: report(bus), 60)
            await eventually(lambda: is_stored(stack, "opened"), 60)
            listening.cancel()
        # Who comes now starts with what is stored, as before.
        assert await asyncio.wait_for(version(stack), 60) == told
        await eventually(stack.is_healthy, 60)


async def listen(bus: hogsend.Client, heard: list[str]) -> None:
    events = bus.events(durable="listener")
    while True:
        heard.append((await anext(events)).id)

"""NATS restarts with an empty disk while every service continues to run."""

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
    """Let the next start of nats-server use an empty directory."""
    file = stack.home / "nats.conf"
    config = json.loads(file.read_text())
    config["jetstream"]["store_dir"] += "-new"
    file.write_text(json.dumps(config))


async def version(stack: Up) -> int:
    """Return the credential's version that a new subscriber receives first."""
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


async def test_services_and_subscribers_continue_when_nats_has_lost_its_disk(
    tmp_path: Path,
) -> None:
    async with up(tmp_path / "home", tmp_path) as stack:
        response = await stack.http.put(
            "/v1/admin/provider-credentials/posthog",
            json={"payload": GRANT},
            headers=stack.admin,
        )
        assert response.is_success, response.text
        stored_version = await asyncio.wait_for(version(stack), 60)
        assert await stack.post("before") == 200
        await eventually(lambda: is_stored(stack, "before"))

        received: list[str] = []
        async with hogsend.connect(stack.app_url) as bus:
            listening = asyncio.create_task(listen(bus, received))
            await eventually(lambda: "before" in received)
            lose_the_disk(stack)
            await kill("nats", stack, None)  # type: ignore[arg-type]
            # The gateway accepts the webhook, into its spool or into the recreated stream.
            assert await stack.post("meanwhile") == 200

            await eventually(lambda: is_stored(stack, "meanwhile"), 60)
            await eventually(lambda: "meanwhile" in received, 60)
            await eventually(lambda: report(bus), 60)
            await eventually(lambda: is_stored(stack, "opened"), 60)
            listening.cancel()
        # A new subscriber receives the stored credential first, as before.
        assert await asyncio.wait_for(version(stack), 60) == stored_version
        await eventually(stack.is_healthy, 60)


async def listen(bus: hogsend.Client, received: list[str]) -> None:
    events = bus.events(durable="listener")
    while True:
        received.append((await anext(events)).id)

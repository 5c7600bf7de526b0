"""Two gateway processes on one port, killed one after the other under load."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import psutil

from services.gateway.webhooks.spool.spool import Spool
from tests.chaos.faults import runs
from tests.ports import free_port
from tests.running_stack import PYTHONPATH, clean_environment
from tests.waiting import eventually, more_than

KEY = "admin-key-of-this-test"


class Load:
    """Posts webhooks, each over a connection of its own, and keeps which were accepted."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._go_on = True
        self.accepted: list[str] = []

    async def post(self) -> None:
        number = 0
        while self._go_on:
            number += 1
            event = {"event": "signed_up", "distinct_id": "u_42", "uuid": f"e-{number}"}
            try:
                answer = await self._http.post(
                    "/v1/webhooks/posthog",
                    json={"event": event, "person": {"properties": {}}},
                    headers={"x-posthog-webhook-secret": "s"},
                )
            except httpx.TransportError:
                # Of the one that was killed; PostHog would send it again.
                continue
            assert answer.status_code == 200
            self.accepted.append(event["uuid"])

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        posting = asyncio.create_task(self.post())
        yield
        self._go_on = False
        await posting


async def test_a_killed_worker_costs_nothing_that_was_accepted(tmp_path: Path) -> None:
    port = free_port()
    http = httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}",
        limits=httpx.Limits(max_keepalive_connections=0),
        timeout=30,
    )
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services", "serve", "gateway"),
        env={
            **clean_environment(),
            "PYTHONPATH": PYTHONPATH,
            "GATEWAY_PORT": str(port),
            "GATEWAY_WORKERS": "2",
            # Nobody is there, so the spool keeps what they accept.
            "NATS_URL": f"nats://127.0.0.1:{free_port()}",
            "SPOOL_DIR": str(tmp_path / "spool"),
            "ADMIN_API_KEY": KEY,
            "POSTHOG_WEBHOOK_SECRET": "s",
        },
        cwd=tmp_path,
        stderr=asyncio.subprocess.DEVNULL,
    )

    async def workers_up() -> int:
        try:
            found = (await http.get("/v1/health")).json()
        except httpx.TransportError:
            return 0
        return int(found["services"]["gateway"]["workersUp"])

    async def both_up() -> bool:
        return await workers_up() == 2

    async def both_measured() -> bool:
        # One that does not answer within a second is left out.
        text = (await http.get("/metrics", headers={"Authorization": f"Bearer {KEY}"})).text
        assert "hogsend_gateway_worker_restarts_total 1.0" in text
        return 'worker="1"' in text and 'worker="2"' in text

    load = Load(http)
    try:
        await eventually(both_up, 60)
        first, second = psutil.Process(parent.pid).children()
        async with load.running():
            await eventually(more_than(20, load.accepted))
            first.kill()
            await eventually(lambda: not runs(first))
            await eventually(more_than(len(load.accepted) + 20, load.accepted))
        await eventually(both_up, 60)
        await eventually(both_measured, 60)

        workers = psutil.Process(parent.pid).children()
        assert second in workers
        parent.kill()
        await parent.wait()
        await eventually(lambda: not any(runs(worker) for worker in workers))
    finally:
        if parent.returncode is None:
            parent.send_signal(signal.SIGTERM)
            await parent.wait()
        await http.aclose()

    # Whoever comes next has it all, however many workers there are then.
    spool = Spool(tmp_path / "spool", 1 << 30)
    kept = await spool.head(10_000, 1 << 30)
    await spool.close()
    assert {json.loads(item.webhook.body)["event"]["uuid"] for item in kept} >= set(load.accepted)

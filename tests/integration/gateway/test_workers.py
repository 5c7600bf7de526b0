"""Two gateway workers on one port: a worker, then their parent, is killed under load."""

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
    """Posts webhooks, each over a new connection, and records which were accepted."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._is_running = True
        self.accepted: list[str] = []

    async def post(self) -> None:
        number = 0
        while self._is_running:
            number += 1
            event = {"event": "signed_up", "distinct_id": "u_42", "uuid": f"e-{number}"}
            try:
                response = await self._http.post(
                    "/v1/webhooks/posthog",
                    json={"event": event, "person": {"properties": {}}},
                    headers={"x-posthog-webhook-secret": "s"},
                )
            except httpx.TransportError:
                # The connection of the killed worker. PostHog would send the webhook again.
                continue
            assert response.status_code == 200
            self.accepted.append(event["uuid"])

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        posting = asyncio.create_task(self.post())
        yield
        self._is_running = False
        await posting


async def test_no_accepted_webhook_is_lost_when_a_worker_and_the_parent_are_killed(
    tmp_path: Path,
) -> None:
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
            # No NATS server listens there, so accepted webhooks stay in the spool.
            "NATS_URL": f"nats://127.0.0.1:{free_port()}",
            "SPOOL_DIR": str(tmp_path / "spool"),
            "ADMIN_API_KEY": KEY,
            "POSTHOG_WEBHOOK_SECRET": "s",
        },
        cwd=tmp_path,
        stderr=asyncio.subprocess.DEVNULL,
    )

    async def running_workers() -> int:
        try:
            health = (await http.get("/v1/health")).json()
        except httpx.TransportError:
            return 0
        return int(health["services"]["gateway"]["workersUp"])

    async def both_are_up() -> bool:
        return await running_workers() == 2

    async def both_have_metrics() -> bool:
        # A worker that does not respond within a second is omitted.
        text = (await http.get("/metrics", headers={"Authorization": f"Bearer {KEY}"})).text
        assert "hogsend_gateway_worker_restarts_total 1.0" in text
        return 'worker="1"' in text and 'worker="2"' in text

    load = Load(http)
    try:
        await eventually(both_are_up, 60)
        first, second = psutil.Process(parent.pid).children()
        async with load.running():
            await eventually(more_than(20, load.accepted))
            first.kill()
            await eventually(lambda: not runs(first))
            await eventually(more_than(len(load.accepted) + 20, load.accepted))
        await eventually(both_are_up, 60)
        await eventually(both_have_metrics, 60)

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

    # The next process finds all accepted webhooks, whatever its number of workers.
    spool = Spool(tmp_path / "spool", 1 << 30)
    spooled = await spool.head(10_000, 1 << 30)
    await spool.close()
    assert {json.loads(item.webhook.body)["event"]["uuid"] for item in spooled} >= set(
        load.accepted
    )

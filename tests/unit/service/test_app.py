"""The application of a service: what runs, and in which order it ends."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from hogsend.contract.users import User
from hogsend.service.app import service_app
from hogsend.service.broker import ServiceBroker
from hogsend.transport.connection import Connection


@pytest.mark.parametrize("fails", [False, True])
async def test_what_work_uses_is_closed_when_no_work_runs_any_more(fails: bool) -> None:
    order: list[str] = []
    running = asyncio.Event()

    async def drain() -> None:
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            order.append("work has ended")

    async def close() -> None:
        order.append("closed")

    broker = ServiceBroker(User.GATEWAY, Connection(User.GATEWAY, "nats://127.0.0.1:1"))
    app = service_app(broker, background=[drain], closing=[close])
    with suppress(ConnectionError):
        async with app.lifespan_context():
            await running.wait()
            if fails:
                raise ConnectionError("a service that could not start")
    assert order == ["work has ended", "closed"]

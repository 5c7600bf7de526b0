"""The application of a service: its background tasks, and the order of its stop."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import nats.errors
import pytest

from hogsend.contract.errors import Unavailable
from hogsend.contract.streams import DEFAULT_LIMITS
from hogsend.contract.users import User
from hogsend.service import app as module
from hogsend.service.app import service_app
from hogsend.service.broker import ServiceBroker
from hogsend.transport.connection import Connection
from tests.waiting import eventually


@pytest.mark.parametrize("fails", [False, True])
async def test_closing_hooks_run_after_the_background_tasks_have_ended(fails: bool) -> None:
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


class Unplugged:
    """JetStream on a connection that breaks during each request."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.requests = 0

    def __getattr__(self, _name: str) -> Any:
        async def fail(*_: Any, **__: Any) -> None:
            self.requests += 1
            raise self.error

        return fail


ERRORS = [ConnectionResetError("reset"), nats.errors.NoServersError(), TimeoutError()]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize(
    "work", [lambda broker: module._check_streams(broker, DEFAULT_LIMITS), module._purge_strays]
)
async def test_a_connection_that_breaks_does_not_end_the_checks_of_streams(
    work: Any, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHECK_STREAMS_SECONDS", 0)
    monkeypatch.setattr(module, "PURGE_STRAYS_SECONDS", 0)
    js = Unplugged(error)
    link = SimpleNamespace(js=js, connected=True, addresses=[])
    checking = asyncio.create_task(
        work(SimpleNamespace(running=True, link=link, user=User.INGEST)),
    )
    await eventually(lambda: js.requests > 1 or checking.done())
    assert not checking.done()
    checking.cancel()


@pytest.mark.parametrize("error", ERRORS)
async def test_streams_are_declared_again_after_a_connection_broke(error: Exception) -> None:
    link = SimpleNamespace(js=Unplugged(error))
    broker: Any = SimpleNamespace(link=link, user=User.INGEST)
    with pytest.raises(Unavailable):
        await module._declare_streams(broker, DEFAULT_LIMITS)

"""The application of a service: its background tasks, and the order of its stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import nats.errors
import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from hogsend.contract.errors import Unavailable
from hogsend.contract.streams import DEFAULT_LIMITS
from hogsend.contract.users import User
from hogsend.service import app as module
from hogsend.service import streams
from hogsend.service.app import service_app
from hogsend.service.broker import ServiceBroker
from hogsend.transport.connection import Connection
from hogsend.transport.log_once import LogOnce
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
        await module._declare_streams(broker, DEFAULT_LIMITS, LogOnce(1))


def warnings_of(logged: list[EventDict]) -> list[tuple[str, str]]:
    return [
        (entry["event"], entry["reason"]) for entry in logged if entry["log_level"] == "warning"
    ]


async def test_a_reason_why_streams_are_not_ready_is_logged_once_until_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    errors: list[Exception | None] = [
        *[nats.errors.TimeoutError()] * 3,
        *[OSError("refused")] * 3,
        None,
    ]

    async def reconcile(*_: Any) -> None:
        if error := errors.pop(0):
            raise error

    async def at_once(declare: Callable[[], Any], **_: Any) -> None:
        while True:
            with suppress(Unavailable):
                return await declare()

    monkeypatch.setattr(streams, "reconcile", reconcile)
    monkeypatch.setattr(module, "retry_until_available", at_once)
    broker = ServiceBroker(User.GATEWAY, Connection(User.GATEWAY, "nats://127.0.0.1:1"))
    monkeypatch.setattr(broker, "connect", AsyncMock())
    app = service_app(broker)
    with capture_logs() as logged:
        for hook in app._on_startup_calling:
            await hook()
    assert not errors
    assert warnings_of(logged) == [
        ("streams are not ready yet", "nats: timeout"),
        ("streams are not ready yet", "refused"),
    ]


@pytest.mark.parametrize(
    ("work", "function", "event"),
    [
        (
            lambda broker: module._check_streams(broker, DEFAULT_LIMITS),
            "recreate_missing",
            "streams were not restored",
        ),
        (module._purge_strays, "purge_strays", "streams were not checked"),
    ],
)
async def test_a_reason_why_streams_cannot_be_checked_is_logged_once_until_they_can(
    work: Any, function: str, event: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors: list[Exception | None] = [
        *[TimeoutError()] * 3,
        OSError("refused"),
        None,
        *[TimeoutError()] * 3,
    ]

    async def check(*_: Any) -> None:
        if not errors:
            await asyncio.Event().wait()
        if error := errors.pop(0):
            raise error

    monkeypatch.setattr(streams, function, check)
    monkeypatch.setattr(module, "_check_bus", AsyncMock())
    monkeypatch.setattr(module, "CHECK_STREAMS_SECONDS", 0)
    monkeypatch.setattr(module, "PURGE_STRAYS_SECONDS", 0)
    link = SimpleNamespace(js=None, connected=True)
    with capture_logs() as logged:
        checking = asyncio.create_task(
            work(SimpleNamespace(running=True, link=link, user=User.INGEST)),
        )
        await eventually(lambda: not errors)
        checking.cancel()
    assert warnings_of(logged) == [
        (event, "TimeoutError"),
        (event, "refused"),
        (event, "TimeoutError"),
    ]

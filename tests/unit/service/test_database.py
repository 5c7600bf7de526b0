"""How a service's database opens its pool, and how long a start waits for it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from unittest.mock import Mock

import asyncpg
import pytest
from structlog.testing import capture_logs

from hogsend.contract.users import User
from hogsend.service.database import Database
from hogsend.service.tasks import cancel_all
from tests.waiting import eventually


async def test_asyncpg_gets_a_plain_str_for_a_schema_named_by_a_user(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings: list[dict[str, str]] = []

    async def create_pool(_url: str, *, server_settings: dict[str, str], **_more: object) -> object:
        settings.append(server_settings)
        return Mock(asyncpg.Pool, get_size=lambda: 1, get_idle_size=lambda: 1)

    async def migrate(*_args: object) -> None:
        """Migrate nothing."""

    async def is_behind_pooler(*_args: object) -> bool:
        return False

    database = Database("postgresql://x", User.PROVISIONER, Path(), pool_size=1)
    monkeypatch.setattr(asyncpg, "create_pool", create_pool)
    monkeypatch.setattr("hogsend.service.database.migrate", migrate)
    monkeypatch.setattr("hogsend.service.database.is_behind_pooler", is_behind_pooler)
    await database.connect()
    await database.close()
    assert {type(value) for value in settings[0].values()} == {str}


async def test_the_first_attempt_has_ended_when_postgresql_could_not_be_reached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hogsend.service.database.FIRST_ATTEMPT_SECONDS", 3600)
    database = Database("postgresql://127.0.0.1:1/x", User.PROVISIONER, Path(), pool_size=1)
    connecting = asyncio.create_task(database.connect())
    await database.wait_for_first_attempt()
    await cancel_all(connecting)


async def test_the_wait_for_a_first_attempt_that_does_not_end_times_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hogsend.service.database.FIRST_ATTEMPT_SECONDS", 0)
    await Database("postgresql://x", User.PROVISIONER, Path(), pool_size=1).wait_for_first_attempt()


async def test_an_error_of_connecting_is_logged_once_until_a_connection_succeeds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lost = OSError("lost")
    outcomes: list[Exception | None] = [lost, lost, OSError("refused"), lost, None, lost, None]

    async def migrate(*_args: object) -> None:
        if error := outcomes.pop(0):
            raise error

    async def is_behind_pooler(*_args: object) -> bool:
        return False

    async def open_pool(*_args: object, **_more: object) -> Mock:
        return Mock(terminate=Mock())

    monkeypatch.setattr("hogsend.service.database.migrate", migrate)
    monkeypatch.setattr("hogsend.service.database.is_behind_pooler", is_behind_pooler)
    monkeypatch.setattr("hogsend.service.database.open_pool", open_pool)
    monkeypatch.setattr("hogsend.service.database.RETRY_SECONDS", 0)
    database = Database("postgresql://x", User.PROVISIONER, Path(), pool_size=1)
    with capture_logs() as logged:
        connecting = asyncio.create_task(database.keep_connected())
        await eventually(lambda: len(outcomes) == 2)
        database._schema_lost.set()
        await eventually(lambda: not outcomes)
        await cancel_all(connecting)
    event = "PostgreSQL is not available yet"
    reasons = [entry["reason"] for entry in logged if entry["event"] == event]
    assert reasons == ["lost", "refused", "lost"]

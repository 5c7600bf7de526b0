"""What is said while no server can be reached."""

from __future__ import annotations

import asyncio

import pytest

from hogsend.transport import connection
from hogsend.transport.connection import Connection
from tests.ports import free_port
from tests.waiting import eventually


async def test_errors_that_are_always_others_are_not_told_of_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "MOST_ERRORS", 2)
    said: list[str] = []
    link = Connection("subscriber", "nats://a", observer=lambda _, what: said.append(what))
    for number in range(9):
        await link._on_error(OSError(f"attempt {number}"))
    assert said == ["OSError: attempt 0", "OSError: attempt 1"]
    # Another outage is another matter.
    await link._on_disconnect()
    await link._on_error(OSError("attempt 0"))
    assert said[-1] == "OSError: attempt 0"


async def test_an_error_of_each_attempt_to_connect_is_said_once() -> None:
    addresses = [f"nats://127.0.0.1:{free_port()}" for _ in range(3)]
    said: list[str] = []
    link = Connection("subscriber", ",".join(addresses), observer=lambda _, what: said.append(what))
    opening = asyncio.create_task(link.open())
    try:
        await eventually(lambda: _attempts(link) >= 2 * len(addresses))
    finally:
        opening.cancel()
        await asyncio.wait({opening})
    # asyncio says which address it was, and uvloop does not.
    assert said
    assert len(said) == len(set(said))


def _attempts(link: Connection) -> int:
    return sum(server.reconnects for server in link.client._server_pool)

"""Errors that are reported while no server is reachable."""

from __future__ import annotations

import asyncio

import pytest

from hogsend.transport import connection
from hogsend.transport.connection import Connection
from tests.ports import free_port
from tests.waiting import eventually


async def test_the_number_of_different_errors_is_limited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "MAX_CONNECT_ERRORS", 2)
    reported: list[str] = []
    link = Connection("subscriber", "nats://a", observer=lambda _, detail: reported.append(detail))
    for number in range(9):
        await link._on_error(OSError(f"attempt {number}"))
    assert reported == ["OSError: attempt 0", "OSError: attempt 1"]
    # After the next disconnect, errors are reported again.
    await link._on_disconnect()
    await link._on_error(OSError("attempt 0"))
    assert reported[-1] == "OSError: attempt 0"


async def test_an_error_of_repeated_attempts_to_connect_is_reported_once() -> None:
    addresses = [f"nats://127.0.0.1:{free_port()}" for _ in range(3)]
    reported: list[str] = []
    link = Connection(
        "subscriber", ",".join(addresses), observer=lambda _, detail: reported.append(detail)
    )
    opening = asyncio.create_task(link.open())
    try:
        await eventually(lambda: _attempts(link) >= 2 * len(addresses))
    finally:
        opening.cancel()
        await asyncio.wait({opening})
    # asyncio names the address in the error, and uvloop does not.
    assert reported
    assert len(reported) == len(set(reported))


def _attempts(link: Connection) -> int:
    return sum(server.reconnects for server in link.client._server_pool)

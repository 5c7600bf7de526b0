"""Large responses: sent in pieces, and aborted when too many clients do not read."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from litestar.types import ASGIApp, HTTPScope
from structlog.testing import capture_logs

from services.gateway import slow_readers
from services.gateway.slow_readers import PIECE_BYTES, ReadTooSlowly, with_responses_in_pieces
from services.gateway.truncated_responses import with_truncated_responses_logged
from tests.waiting import eventually

HTTP = cast("HTTPScope", {"type": "http"})
LARGE = bytes(range(256)) * 600


async def response(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": LARGE, "more_body": False})


class Reader:
    """A client that reads `max_messages` messages and then stops reading."""

    def __init__(self, app: ASGIApp, max_messages: int) -> None:
        self.received: list[dict[str, Any]] = []
        self._max_messages = max_messages
        self.request = asyncio.create_task(cast("Any", app)(HTTP, None, self._send))

    async def _send(self, message: dict[str, Any]) -> None:
        if len(self.received) == self._max_messages:
            await asyncio.Event().wait()
        self.received.append(message)


async def test_a_large_response_is_sent_in_pieces_and_in_full() -> None:
    reader = Reader(with_responses_in_pieces(cast("ASGIApp", response)), 100)
    await reader.request
    pieces = reader.received[1:]
    assert b"".join(piece["body"] for piece in pieces) == LARGE
    assert max(len(piece["body"]) for piece in pieces) == PIECE_BYTES
    assert [piece["more_body"] for piece in pieces] == [True] * (len(pieces) - 1) + [False]


async def test_responses_that_clients_do_not_read_are_aborted_only_when_others_wait() -> None:
    app = with_responses_in_pieces(cast("ASGIApp", response), max_concurrent=2, slow_seconds=0)
    # An aborted response is not logged: it is no fault of the gateway.
    app = with_truncated_responses_logged(app)
    first, second = Reader(app, 2), Reader(app, 2)
    await eventually(lambda: len(second.received) == 2)
    assert not first.request.done()
    last = Reader(app, 100)
    with capture_logs() as lines:
        await last.request
        for aborted in (first, second):
            with pytest.raises(ReadTooSlowly):
                await aborted.request
    assert lines == []


async def test_waiting_responses_are_sent_in_order_and_only_the_first_checks_for_slow_clients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checks: list[asyncio.Task[Any] | None] = []
    abort_slow = slow_readers._Slots._abort_slow

    def record_check(slots: Any) -> None:
        checks.append(asyncio.current_task())
        if len(checks) >= 20:
            abort_slow(slots)

    monkeypatch.setattr(slow_readers._Slots, "_abort_slow", record_check)
    app = with_responses_in_pieces(cast("ASGIApp", response), max_concurrent=1, slow_seconds=0.01)
    first = Reader(app, 2)
    await eventually(lambda: len(first.received) == 2)
    waiting = [Reader(app, 100) for _ in range(8)]
    ended: list[asyncio.Task[Any]] = []
    for reader in waiting:
        reader.request.add_done_callback(ended.append)
    await asyncio.gather(*(reader.request for reader in waiting))
    assert set(checks[:20]) == {waiting[0].request}
    assert ended == [reader.request for reader in waiting]
    with pytest.raises(ReadTooSlowly):
        await first.request

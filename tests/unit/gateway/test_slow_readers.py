"""Large answers: sent in pieces, and given up where many clients do not read."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from litestar.types import ASGIApp, HTTPScope
from structlog.testing import capture_logs

from services.gateway import slow_readers
from services.gateway.cut_off_answers import with_cut_off_answers_logged
from services.gateway.slow_readers import PIECE_BYTES, ReadTooSlowly, with_answers_in_pieces
from tests.waiting import eventually

HTTP = cast("HTTPScope", {"type": "http"})
LARGE = bytes(range(256)) * 600


async def answer(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": LARGE, "more_body": False})


class Reader:
    """A client; it takes as many messages as it is told to."""

    def __init__(self, app: ASGIApp, takes: int) -> None:
        self.got: list[dict[str, Any]] = []
        self._takes = takes
        self.request = asyncio.create_task(cast("Any", app)(HTTP, None, self._send))

    async def _send(self, message: dict[str, Any]) -> None:
        if len(self.got) == self._takes:
            await asyncio.Event().wait()
        self.got.append(message)


async def test_a_large_answer_comes_in_pieces_and_whole() -> None:
    reader = Reader(with_answers_in_pieces(cast("ASGIApp", answer)), 100)
    await reader.request
    pieces = reader.got[1:]
    assert b"".join(piece["body"] for piece in pieces) == LARGE
    assert max(len(piece["body"]) for piece in pieces) == PIECE_BYTES
    assert [piece["more_body"] for piece in pieces] == [True] * (len(pieces) - 1) + [False]


async def test_those_that_do_not_read_make_room_for_others_and_only_then() -> None:
    app = with_answers_in_pieces(cast("ASGIApp", answer), at_once=2, slow_seconds=0)
    # Counted, and no fault of the gateway's.
    app = with_cut_off_answers_logged(app)
    first, second = Reader(app, 2), Reader(app, 2)
    await eventually(lambda: len(second.got) == 2)
    assert not first.request.done()
    last = Reader(app, 100)
    with capture_logs() as lines:
        await last.request
        for given_up in (first, second):
            with pytest.raises(ReadTooSlowly):
                await given_up.request
    assert lines == []


async def test_those_that_wait_are_sent_theirs_in_their_order_and_one_of_them_looks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked: list[asyncio.Task[Any] | None] = []
    look = slow_readers._Slots._give_up_slow

    def watched(slots: Any) -> None:
        looked.append(asyncio.current_task())
        if len(looked) >= 20:
            look(slots)

    monkeypatch.setattr(slow_readers._Slots, "_give_up_slow", watched)
    app = with_answers_in_pieces(cast("ASGIApp", answer), at_once=1, slow_seconds=0.01)
    first = Reader(app, 2)
    await eventually(lambda: len(first.got) == 2)
    waiting = [Reader(app, 100) for _ in range(8)]
    ended: list[asyncio.Task[Any]] = []
    for one in waiting:
        one.request.add_done_callback(ended.append)
    await asyncio.gather(*(one.request for one in waiting))
    assert set(looked[:20]) == {waiting[0].request}
    assert ended == [one.request for one in waiting]
    with pytest.raises(ReadTooSlowly):
        await first.request

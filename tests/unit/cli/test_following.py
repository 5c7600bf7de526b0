"""`hogsend events follow` ends when the program that reads its output does."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

import hogsend
from cli.events.following import follow
from tests.waiting import PATIENCE_SECONDS


class QuietClient:
    """A client that receives no event."""

    def __init__(self) -> None:
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        self._stopped.set()

    async def events(self, _event: str | None, **_options: object) -> AsyncIterator[None]:
        await asyncio.wait_for(self._stopped.wait(), PATIENCE_SECONDS)
        return
        yield


@asynccontextmanager
async def connect_quietly(_address: str) -> AsyncIterator[QuietClient]:
    yield QuietClient()


def test_a_closed_pipe_is_noticed_before_the_next_event_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hogsend, "connect", connect_quietly)
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        with pytest.raises(BrokenPipeError):
            follow("nats://127.0.0.1", None, print)

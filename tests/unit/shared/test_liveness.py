"""The file that tells a health check that a service works."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hogsend.service import heartbeat as liveness
from hogsend.service.metrics import FAILURES
from tests.waiting import eventually


async def test_it_is_touched_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "TOUCH_SECONDS", 0.01)
    file = tmp_path / "alive"
    touching = asyncio.create_task(liveness.touch_periodically(file))
    await eventually(file.exists)
    file.unlink()
    await eventually(file.exists)
    touching.cancel()


async def test_a_directory_that_cannot_be_written_is_counted_and_nothing_stops(
    tmp_path: Path,
) -> None:
    counted = FAILURES.labels("health_file", "FileNotFoundError")._value
    before = counted.get()
    touching = asyncio.create_task(liveness.touch_periodically(tmp_path / "missing" / "alive"))
    await eventually(lambda: counted.get() > before)
    assert not touching.done()
    touching.cancel()


async def test_without_one_there_is_nothing_to_do() -> None:
    await liveness.touch_periodically(None)

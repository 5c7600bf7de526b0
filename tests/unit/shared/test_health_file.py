"""The health file: a service touches it regularly, so a health check can see that it works."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hogsend.service import heartbeat
from hogsend.service.metrics import FAILURES
from tests.waiting import eventually


async def test_the_health_file_is_touched_repeatedly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "TOUCH_SECONDS", 0.01)
    file = tmp_path / "alive"
    touching = asyncio.create_task(heartbeat.touch_periodically(file))
    await eventually(file.exists)
    file.unlink()
    await eventually(file.exists)
    touching.cancel()


async def test_a_failure_to_write_the_health_file_is_counted_and_writing_continues(
    tmp_path: Path,
) -> None:
    failures = FAILURES.labels("health_file", "FileNotFoundError")._value
    before = failures.get()
    touching = asyncio.create_task(heartbeat.touch_periodically(tmp_path / "missing" / "alive"))
    await eventually(lambda: failures.get() > before)
    assert not touching.done()
    touching.cancel()


async def test_touching_ends_at_once_without_a_health_file() -> None:
    await heartbeat.touch_periodically(None)

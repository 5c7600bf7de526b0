"""When old rows are looked for, and that what fails once ends nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from hogsend.contract.errors import Unavailable
from hogsend.service.retention import RETRY_SECONDS, SWEEP_SECONDS, Retention
from hogsend.service.tasks import cancel_all
from tests.virtual_time import now, on_virtual_time


class Sweeps(Retention):
    """Notes when it sweeps; the first sweep ends with `error`."""

    def __init__(self, error: Exception | None = None, *, days: int = 30) -> None:
        database: Any = None
        super().__init__(database, "events", column="received_at", days=days)
        self.error = error
        self.at: list[float] = []

    async def sweep(self) -> int:
        self.at.append(now())
        error, self.error = self.error, None
        if error is not None:
            raise error
        return 0


@on_virtual_time
@pytest.mark.parametrize(
    ("error", "second"),
    [
        (None, SWEEP_SECONDS),
        (Unavailable("PostgreSQL is not there"), RETRY_SECONDS),
        (asyncpg.InsufficientPrivilegeError("it refuses"), SWEEP_SECONDS),
    ],
)
async def test_rows_are_looked_for_again_and_again(error: Exception | None, second: float) -> None:
    sweeps = Sweeps(error)
    keeping = asyncio.create_task(sweeps.keep_swept())
    await asyncio.sleep(second + SWEEP_SECONDS + 1)
    assert sweeps.at == [0, second, second + SWEEP_SECONDS]
    await cancel_all(keeping)


@on_virtual_time
async def test_what_is_kept_for_ever_is_not_looked_for() -> None:
    sweeps = Sweeps(days=0)
    await sweeps.keep_swept()
    assert sweeps.at == []

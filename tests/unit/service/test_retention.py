"""When sweeps for old rows run, also after one has failed."""

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
    """Records the times of its sweeps; the first one fails with `error`."""

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
    ("error", "second_sweep"),
    [
        (None, SWEEP_SECONDS),
        (Unavailable("PostgreSQL is not there"), RETRY_SECONDS),
        (asyncpg.InsufficientPrivilegeError("it refuses"), SWEEP_SECONDS),
    ],
)
async def test_sweeps_are_repeated(error: Exception | None, second_sweep: float) -> None:
    sweeps = Sweeps(error)
    sweeping = asyncio.create_task(sweeps.sweep_periodically())
    await asyncio.sleep(second_sweep + SWEEP_SECONDS + 1)
    assert sweeps.at == [0, second_sweep, second_sweep + SWEEP_SECONDS]
    await cancel_all(sweeping)


@on_virtual_time
async def test_without_a_number_of_days_there_are_no_sweeps() -> None:
    sweeps = Sweeps(days=0)
    await sweeps.sweep_periodically()
    assert sweeps.at == []

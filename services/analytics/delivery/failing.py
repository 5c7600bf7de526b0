"""Which deliveries fail, and since when: kept in PostgreSQL, so that every replica can say it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import aiosql
import structlog

from hogsend.contract.errors import HogsendError
from hogsend.contract.notices import FailingDeliveries, FailingDelivery
from hogsend.service.database import Database
from hogsend.service.metrics import FAILURES
from services.analytics.delivery.destination_consumers import destination_durable
from services.analytics.destinations.store import DestinationStore

log = structlog.get_logger(__name__)

_queries: Any = aiosql.from_path(Path(__file__).with_name("failing.sql"), "asyncpg")


class Health(Protocol):
    """Hears how attempts end."""

    async def failed(self, durable: str) -> None:
        """An attempt for a consumer failed, and not for what the events contain."""

    async def worked(self, durable: str) -> None:
        """An attempt for a consumer succeeded."""


class FailingConsumers(Health):
    """Writes only where something changes: the first failure, and the success after it."""

    def __init__(self, database: Database, standing: Iterable[str]) -> None:
        """Report the consumers `standing`, and those of destinations that are not paused."""
        self._database = database
        self._standing = frozenset(standing)
        self._noted: dict[str, bool] = {}

    async def failed(self, durable: str) -> None:
        """Note a failure."""
        await self._note(durable, fails=True)

    async def worked(self, durable: str) -> None:
        """Note a success."""
        await self._note(durable, fails=False)

    def forget(self) -> None:
        """Look again at the next attempt: another replica may have led meanwhile."""
        self._noted.clear()

    async def list(self, store: DestinationStore) -> FailingDeliveries:
        """List what fails.

        Raises:
            HogsendError: PostgreSQL is not available.
        """
        subjects = {name: name for name in self._standing}
        subjects |= {
            destination_durable(one.id): str(one.id)
            for one in await store.all()
            if not one.disabled
        }
        async with self._database.acquire() as connection:
            rows = [row async for row in _queries.failing(connection)]
        return FailingDeliveries(
            [
                FailingDelivery(subjects[row["durable"]], row["since"])
                for row in rows
                if row["durable"] in subjects
            ]
        )

    async def _note(self, durable: str, *, fails: bool) -> None:
        if self._noted.get(durable) is fails:
            return
        note = _queries.failed if fails else _queries.worked
        try:
            async with self._database.acquire() as connection:
                await note(connection, durable=durable)
        except HogsendError as error:
            # It is noted at the next attempt.
            FAILURES.labels("failing", error.code).inc()
            log.debug("a failing delivery was not recorded", reason=str(error))
            return
        self._noted[durable] = fails

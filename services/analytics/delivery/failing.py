"""Which deliveries fail, and since when: kept in PostgreSQL, so that every replica can say it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

import aiosql
import msgspec
import structlog

from hogsend.contract.errors import HogsendError
from hogsend.contract.notices import FailingDeliveries, FailingDelivery
from hogsend.service.database import Database
from hogsend.service.metrics import FAILURES
from hogsend.service.nul import text_without_nul
from services.analytics.destinations.durable import destination_durable
from services.analytics.destinations.store import DestinationStore

log = structlog.get_logger(__name__)

_queries: Any = aiosql.from_path(Path(__file__).with_name("failing.sql"), "asyncpg")


EVERY_SECONDS = 5.0
"""How often failures of a consumer are written down at most."""
MAX_ERROR = 500
"""Characters that are kept of an error."""


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """A failed attempt to send a batch."""

    attempts: int
    """So far, of the event in it that was tried most often."""
    response_status: int | None
    error: str
    next_seconds: float | None
    """Until the next attempt; None when there is none."""


class Health(Protocol):
    """Hears how attempts end."""

    async def failed(self, durable: str, attempt: Attempt) -> None:
        """An attempt for a consumer failed, and not for what the events contain."""

    async def worked(self, durable: str) -> None:
        """An attempt for a consumer succeeded."""


class FailingConsumers(Health):
    """Writes failures now and then, and the first success after them."""

    def __init__(
        self,
        database: Database,
        standing: Iterable[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Report the consumers `standing`, and those of destinations that are not paused."""
        self._database = database
        self._standing = frozenset(standing)
        self._clock = clock
        self._works: set[str] = set()
        self._noted_at: dict[str, float] = {}

    async def failed(self, durable: str, attempt: Attempt) -> None:
        """Note a failure."""
        now = self._clock()
        noted_at = self._noted_at.get(durable)
        if noted_at is not None and now - noted_at < EVERY_SECONDS:
            return
        # PostgreSQL has no NUL.
        error = text_without_nul(attempt.error[:MAX_ERROR])
        attempt = msgspec.structs.replace(attempt, error=error)
        if await self._write(_queries.failed, durable=durable, **msgspec.structs.asdict(attempt)):
            self._works.discard(durable)
            self._noted_at[durable] = now

    async def worked(self, durable: str) -> None:
        """Note a success."""
        if durable not in self._works and await self._write(_queries.worked, durable=durable):
            self._noted_at.pop(durable, None)
            self._works.add(durable)

    def forget(self) -> None:
        """Look again at the next attempt: another replica may have led meanwhile."""
        self._works.clear()
        self._noted_at.clear()

    async def list(self, store: DestinationStore) -> FailingDeliveries:
        """List what fails.

        Raises:
            HogsendError: PostgreSQL cannot be used.
        """
        subjects = {name: name for name in self._standing}
        subjects |= {
            destination_durable(one.id): str(one.id)
            for one in await store.all()
            if not one.disabled
        }
        async with self._database.transaction() as connection:
            rows = [row async for row in _queries.failing(connection)]
        return FailingDeliveries(
            [
                FailingDelivery(subjects[row["durable"]], row["since"])
                for row in rows
                if row["durable"] in subjects
            ]
        )

    async def _write(self, query: Any, **values: object) -> bool:
        try:
            async with self._database.transaction() as connection:
                await query(connection, **values)
        except HogsendError as error:
            # It is noted at the next attempt.
            FAILURES.labels("failing", error.code).inc()
            log.debug("a failing delivery was not recorded", reason=str(error))
            return False
        return True

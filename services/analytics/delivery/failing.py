"""Records in PostgreSQL which deliveries fail and since when, for every replica to report."""

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


WRITE_SECONDS = 5.0
"""Shortest time between two writes of failures of one consumer."""
MAX_ERROR = 500
"""Longest error message that is stored, in characters; longer ones are truncated."""


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """A failed attempt to send a batch."""

    attempts: int
    """Attempts so far for the event of the batch that was tried most often."""
    response_status: int | None
    error: str
    next_seconds: float | None
    """Seconds until the next attempt; None when there is none."""


class Health(Protocol):
    """Is notified of the result of each attempt."""

    async def record_failure(self, durable: str, attempt: Attempt) -> None:
        """Note a failed attempt of a consumer whose cause is not the content of the events."""

    async def record_success(self, durable: str) -> None:
        """Note a successful attempt of a consumer."""


class FailingConsumers(Health):
    """Stores failures at most every `WRITE_SECONDS`, and the first success after a failure."""

    def __init__(
        self,
        database: Database,
        built_in: Iterable[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Report the consumers `built_in`, and those of destinations that are not paused."""
        self._database = database
        self._built_in = frozenset(built_in)
        self._clock = clock
        self._working: set[str] = set()
        """Consumers whose success is stored."""
        self._written_at: dict[str, float] = {}

    async def record_failure(self, durable: str, attempt: Attempt) -> None:
        """Store a failure, unless one of the consumer was stored a moment ago."""
        now = self._clock()
        written_at = self._written_at.get(durable)
        if written_at is not None and now - written_at < WRITE_SECONDS:
            return
        # PostgreSQL's text cannot contain NUL.
        error = text_without_nul(attempt.error[:MAX_ERROR])
        attempt = msgspec.structs.replace(attempt, error=error)
        if await self._write(
            _queries.record_failure, durable=durable, **msgspec.structs.asdict(attempt)
        ):
            self._working.discard(durable)
            self._written_at[durable] = now

    async def record_success(self, durable: str) -> None:
        """Delete the stored failure of a consumer, unless its success is stored already."""
        if durable not in self._working and await self._write(
            _queries.delete_failure, durable=durable
        ):
            self._written_at.pop(durable, None)
            self._working.add(durable)

    def forget(self) -> None:
        """Store the next result of every consumer: another replica may have led meanwhile."""
        self._working.clear()
        self._written_at.clear()

    async def list(self, store: DestinationStore) -> FailingDeliveries:
        """List the failing deliveries.

        Raises:
            HogsendError: PostgreSQL cannot be used.
        """
        subjects = {name: name for name in self._built_in}
        subjects |= {
            destination_durable(destination.id): str(destination.id)
            for destination in await store.all()
            if not destination.disabled
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
            # The next attempt writes again.
            FAILURES.labels("failing", error.code).inc()
            log.debug("a failing delivery was not recorded", reason=str(error))
            return False
        return True

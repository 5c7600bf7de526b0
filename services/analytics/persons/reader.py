"""Reads persons from PostHog: cached, with one call at a time for each person. Deletes them, too.

A read never fails: without an answer the properties are empty, and a metric counts why (contract
4.1). Only what PostHog answered is kept, an empty answer included.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime

import msgspec
import structlog
from cachetools import TTLCache
from prometheus_client import Counter

from hogsend.contract.base import Properties
from hogsend.contract.credentials import CredentialChanged, TokenReply
from hogsend.contract.errors import HogsendError
from hogsend.contract.identity import contact_user_id
from hogsend.contract.json_text import is_too_deep
from hogsend.posthog.api import Persons, PostHogError
from hogsend.posthog.errors import PostHogTimeout
from hogsend.service.bearer_cache import BearerCache
from hogsend.service.credential_watcher import CredentialWatcher
from hogsend.service.metrics import FAILURES, begin_at_zero
from services.analytics.persons.access import PersonAccess
from services.analytics.persons.memory import KEPT_BYTES, bytes_of
from services.analytics.persons.own_writes import OwnWrites

log = structlog.get_logger(__name__)

KEPT_SECONDS = 300.0
KEPT_PERSONS = 10_000
DEADLINE_SECONDS = 10.0
HANGING_SECONDS = 5.0
"""How long no person is read from a PostHog that answered nothing at all within that deadline."""
AT_A_TIME = 16
"""Persons that are read at the same time for one who asks for several."""
MAX_BYTES = 900_000
"""More does not fit into a NATS message of the default size."""
ASK_SECONDS = 1.0

READS = Counter("hogsend_person_reads", "Person reads, by where the answer came from", ["outcome"])
begin_at_zero(READS, "kept", "off", "placeholder", "read", "failed")


class _Kept(msgspec.Struct, frozen=True):
    properties: Properties
    version: int
    """Version of the credential they were read with."""
    bytes: int
    """How much memory they take, about; of small ones as many are kept as of persons."""


class PersonReader:
    """Persons of the project the credential belongs to."""

    def __init__(
        self,
        bearers: BearerCache,
        access: PersonAccess,
        watcher: CredentialWatcher,
        *,
        writes: OwnWrites,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read through `access`; forget everything when `watcher` hears of a change."""
        self._bearers = bearers
        self._access = access
        self._writes = writes
        self._kept: TTLCache[str, _Kept] = TTLCache(
            KEPT_BYTES, KEPT_SECONDS, clock, lambda kept: kept.bytes
        )
        self._reading: dict[str, asyncio.Task[Properties | None]] = {}
        self._changes = 0
        self._clock = clock
        self._hangs_until = 0.0
        self._read_at = -math.inf
        """When a person was read last."""
        watcher.on_change(self._changed)

    async def properties(self, distinct_id: str) -> Properties:
        """Give a person's properties, empty when they are not known; never raises.

        What was written from here counts at once, whatever is cached and however far PostHog is.
        """
        found = await self._found(distinct_id)
        await self._writes.are_noted()
        return self._with_own_writes(distinct_id, found)

    async def properties_of_all(
        self, distinct_ids: Sequence[str], *, seconds: float
    ) -> list[Properties]:
        """Give the properties of several persons, as `properties` does; never raises.

        Args:
            distinct_ids: whom; the answer has their order.
            seconds: how long PostHog is asked in all. Who is not read by then is not known, unless
                kept from before.
        """
        slots, until = asyncio.Semaphore(AT_A_TIME), self._clock() + seconds

        async def find(distinct_id: str) -> Properties | None:
            async with slots:
                return await self._found(distinct_id, until)

        found = await asyncio.gather(*map(find, distinct_ids))
        if self._clock() >= until:
            log.warning(
                "not all persons were read in time; the contacts' properties are used instead",
                persons=len(distinct_ids),
            )
        # Once for all of them: while PostHog is down this may take its longest each time.
        await self._writes.are_noted()
        return list(map(self._with_own_writes, distinct_ids, found))

    def _with_own_writes(self, distinct_id: str, found: Properties | None) -> Properties:
        return {} if found is None else self._writes.laid_over(distinct_id, found)

    async def _found(self, distinct_id: str, until: float | None = None) -> Properties | None:
        if contact_user_id(distinct_id) is None:
            # PostHog has a person of everybody who was sent under such an id (correction C5).
            READS.labels("placeholder").inc()
            return None
        kept = self._kept.get(distinct_id)
        # A change whose event was lost shows in the version of the bearer, within 30 s.
        if kept is not None and kept.version == self._bearers.version:
            READS.labels("kept").inc()
            return kept.properties
        left = None if until is None else until - self._clock()
        if left is not None and left <= 0:
            _count_not_asked()
            return None
        reading = self._reading.get(distinct_id)
        if reading is None:
            reading = asyncio.create_task(self._read(distinct_id))
            self._reading[distinct_id] = reading
            reading.add_done_callback(lambda task: self._done(distinct_id, task))
        # A caller that gives up must not take the answer from the others.
        done, _ = await asyncio.wait({reading}, timeout=left)
        return reading.result() if done else None

    async def delete(self, distinct_ids: Sequence[str]) -> TokenReply:
        """Delete the persons with one of these ids, in the project that `properties` reads.

        Returns:
            The bearer that PostHog took; one without a token when there is none, and nothing was
            asked.

        Raises:
            HogsendError: a service did not answer.
            PostHogError: PostHog refused, or cannot be reached.
        """
        bearer = await self._bearers.token()
        if bearer.token is None:
            return bearer
        _, used = await self._access.ask(lambda persons: persons.delete(distinct_ids), bearer)
        self.forget(distinct_ids, datetime.now(UTC))
        return used

    def forget(self, distinct_ids: Collection[str], until: datetime) -> None:
        """Forget what is kept of erased persons, and what was written to them up to that moment."""
        # What is being read is given to those who wait for it, and not kept.
        self._changes += 1
        for id in distinct_ids:
            self._kept.pop(id, None)
            self._reading.pop(id, None)
        self._writes.forget(distinct_ids, until)

    async def log_when_off(self) -> None:
        """Log that persons cannot be read, if so, as soon as that is known."""
        while True:
            try:
                bearer = await self._bearers.token()
            except HogsendError as error:
                FAILURES.labels("persons", error.code).inc()
                log.debug("it is not known yet whether persons can be read", reason=str(error))
                await asyncio.sleep(ASK_SECONDS)
                continue
            if bearer.token is None:
                log.info(
                    "person reads are off; contact properties and DEFAULT_TIMEZONE are used",
                    fix="run `hogsend connect posthog`, or set POSTHOG_PERSONAL_API_KEY",
                )
            return

    def _done(self, distinct_id: str, task: asyncio.Task[Properties | None]) -> None:
        if self._reading.get(distinct_id) is task:
            del self._reading[distinct_id]

    async def _read(self, distinct_id: str) -> Properties | None:
        changes, asked_at, began = self._changes, self._writes.now(), self._clock()
        if began < self._hangs_until:
            _count_not_asked()
            return None
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                bearer = await self._bearers.token()
                if bearer.token is None:
                    READS.labels("off").inc()
                    return None
                found, used = await self._access.ask(
                    lambda persons: _properties(persons, distinct_id), bearer
                )
        except (HogsendError, PostHogError, TimeoutError) as error:
            _count_failure(error)
            if isinstance(error, (TimeoutError, PostHogTimeout)) and self._read_at < began:
                # Each waits as long, and those behind them for the whole of their own deadlines.
                self._hangs_until = self._clock() + HANGING_SECONDS
            return None
        self._read_at = self._clock()
        if changes == self._changes:
            size = max(bytes_of(found), KEPT_BYTES // KEPT_PERSONS)
            self._kept[distinct_id] = _Kept(found, used.version, size)
        READS.labels("read").inc()
        self._writes.caught_up(distinct_id, found, asked_at)
        return found

    def _changed(self, _change: CredentialChanged | None) -> None:
        # What is being read is given to those who wait for it, and not kept.
        self._changes += 1
        self._hangs_until = 0.0
        self._kept.clear()
        self._reading.clear()


async def _properties(persons: Persons, distinct_id: str) -> Properties:
    found = await persons.properties(distinct_id)
    encoded = msgspec.json.encode(found)
    if len(encoded) > MAX_BYTES:
        raise PostHogError(f"the person has more than {MAX_BYTES} bytes of properties")
    if is_too_deep(encoded):
        raise PostHogError("the person has properties that are nested too deeply")
    return found


def _count_not_asked() -> None:
    # Why is logged once: of a thousand persons each would be a line.
    READS.labels("failed").inc()
    FAILURES.labels("person_read", "not_asked").inc()


def _count_failure(error: HogsendError | PostHogError | TimeoutError) -> None:
    status = error.status if isinstance(error, PostHogError) else None
    kind = f"http_{status}" if status else type(error).__name__
    READS.labels("failed").inc()
    FAILURES.labels("person_read", kind).inc()
    log.warning(
        "person not read; the contact's properties are used instead", reason=str(error) or kind
    )

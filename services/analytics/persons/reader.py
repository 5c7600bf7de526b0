"""Reads persons from PostHog, and deletes them there.

Reads are cached, and concurrent reads of one person share one request. A read never fails: without
a response from PostHog the properties are empty, and a metric counts the reason (contract 4.1).
Only responses of PostHog are cached, including empty ones.
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
from hogsend.service.metrics import FAILURES, initialize_at_zero
from services.analytics.persons.access import PersonAccess
from services.analytics.persons.memory import CACHE_BYTES, memory_bytes
from services.analytics.persons.own_writes import OwnWrites

log = structlog.get_logger(__name__)

CACHE_SECONDS = 300.0
MAX_PERSONS = 10_000
DEADLINE_SECONDS = 10.0
HANG_PAUSE_SECONDS = 5.0
"""Pause of all reads after PostHog did not respond to a read within `DEADLINE_SECONDS`."""
MAX_CONCURRENT_READS = 16
"""Concurrent reads for one request that names several persons."""
MAX_BYTES = 900_000
"""Largest JSON of one person's properties. More does not fit into a NATS message of the default
size (1 MiB)."""
BEARER_RETRY_SECONDS = 1.0

READS = Counter("hogsend_person_reads", "Person reads, by where the answer came from", ["outcome"])
initialize_at_zero(READS, "kept", "off", "placeholder", "read", "failed")


class _CachedPerson(msgspec.Struct, frozen=True):
    properties: Properties
    version: int
    """Version of the credential that the properties were read with."""
    bytes: int
    """Approximate memory use; the minimum limits the cache to `MAX_PERSONS` entries."""


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
        """Read through `access`; clear the cache when `watcher` reports a credential change."""
        self._bearers = bearers
        self._access = access
        self._writes = writes
        self._cache: TTLCache[str, _CachedPerson] = TTLCache(
            CACHE_BYTES, CACHE_SECONDS, clock, lambda person: person.bytes
        )
        self._reading: dict[str, asyncio.Task[Properties | None]] = {}
        self._invalidations = 0
        """How often cached persons were dropped. A read that started before is not cached."""
        self._clock = clock
        self._hangs_until = 0.0
        self._read_at = -math.inf
        """When PostHog last returned a person."""
        watcher.on_change(self._changed)

    async def properties(self, distinct_id: str) -> Properties:
        """Return a person's properties, empty when they are not known; never raises.

        Writes that were sent through Hogsend are included at once, even if the cache and PostHog
        do not have them yet.
        """
        properties = await self._read_cached(distinct_id)
        await self._writes.wait_until_recorded()
        return self._with_own_writes(distinct_id, properties)

    async def properties_of_all(
        self, distinct_ids: Sequence[str], *, seconds: float
    ) -> list[Properties]:
        """Return the properties of several persons, as `properties` does; never raises.

        Args:
            distinct_ids: the persons; the result is in this order.
            seconds: time limit for all reads together. A person that was not read by then has no
                properties, unless cached.
        """
        slots, until = asyncio.Semaphore(MAX_CONCURRENT_READS), self._clock() + seconds

        async def read(distinct_id: str) -> Properties | None:
            async with slots:
                return await self._read_cached(distinct_id, until)

        persons = await asyncio.gather(*map(read, distinct_ids))
        if self._clock() >= until:
            log.warning(
                "not all persons were read in time; the contacts' properties are used instead",
                persons=len(distinct_ids),
            )
        # Once for all persons: while PostHog is down, each wait may take its full timeout.
        await self._writes.wait_until_recorded()
        return list(map(self._with_own_writes, distinct_ids, persons))

    def _with_own_writes(self, distinct_id: str, properties: Properties | None) -> Properties:
        return {} if properties is None else self._writes.overlay(distinct_id, properties)

    async def _read_cached(self, distinct_id: str, until: float | None = None) -> Properties | None:
        """Return a person from the cache or from PostHog; None when the person was not read."""
        if contact_user_id(distinct_id) is None:
            # A placeholder such as "null": PostHog's person of that name combines all users that
            # were sent under it (correction C5).
            READS.labels("placeholder").inc()
            return None
        cached = self._cache.get(distinct_id)
        # A credential change whose event was lost is noticed by the bearer's version, within 30 s.
        if cached is not None and cached.version == self._bearers.version:
            READS.labels("kept").inc()
            return cached.properties
        remaining = None if until is None else until - self._clock()
        if remaining is not None and remaining <= 0:
            _count_not_requested()
            return None
        reading = self._reading.get(distinct_id)
        if reading is None:
            reading = asyncio.create_task(self._read(distinct_id))
            self._reading[distinct_id] = reading
            reading.add_done_callback(lambda task: self._done(distinct_id, task))
        # `wait` does not cancel the read when this caller is cancelled: other callers share it.
        done, _ = await asyncio.wait({reading}, timeout=remaining)
        return reading.result() if done else None

    async def delete(self, distinct_ids: Sequence[str]) -> TokenReply:
        """Delete the persons with any of these ids, in the project that `properties` reads.

        Returns:
            The bearer that PostHog accepted. Without a credential, a bearer without a token; then
            no request was sent to PostHog.

        Raises:
            HogsendError: another service did not reply.
            PostHogError: PostHog refused, or cannot be reached.
        """
        bearer = await self._bearers.token()
        if bearer.token is None:
            return bearer
        _, used = await self._access.call(lambda persons: persons.delete(distinct_ids), bearer)
        self.forget(distinct_ids, datetime.now(UTC))
        return used

    def forget(self, distinct_ids: Collection[str], until: datetime) -> None:
        """Drop erased persons from the cache, and writes to them that were published up to `until`.

        A read in flight is returned to its callers but not cached.
        """
        self._invalidations += 1
        for id in distinct_ids:
            self._cache.pop(id, None)
            self._reading.pop(id, None)
        self._writes.forget(distinct_ids, until)

    async def log_when_off(self) -> None:
        """Log once if there is no credential to read persons with, retrying until that is known."""
        while True:
            try:
                bearer = await self._bearers.token()
            except HogsendError as error:
                FAILURES.labels("persons", error.code).inc()
                log.debug("it is not known yet whether persons can be read", reason=str(error))
                await asyncio.sleep(BEARER_RETRY_SECONDS)
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
        invalidations = self._invalidations
        requested_at, started_at = self._writes.now(), self._clock()
        if started_at < self._hangs_until:
            _count_not_requested()
            return None
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                bearer = await self._bearers.token()
                if bearer.token is None:
                    READS.labels("off").inc()
                    return None
                properties, used = await self._access.call(
                    lambda persons: _properties(persons, distinct_id), bearer
                )
        except (HogsendError, PostHogError, TimeoutError) as error:
            _count_failure(error)
            if isinstance(error, (TimeoutError, PostHogTimeout)) and self._read_at < started_at:
                # Without the pause, every further read would take its whole deadline.
                self._hangs_until = self._clock() + HANG_PAUSE_SECONDS
            return None
        self._read_at = self._clock()
        if invalidations == self._invalidations:
            size = max(memory_bytes(properties), CACHE_BYTES // MAX_PERSONS)
            self._cache[distinct_id] = _CachedPerson(properties, used.version, size)
        READS.labels("read").inc()
        self._writes.drop_visible(distinct_id, properties, requested_at)
        return properties

    def _changed(self, _change: CredentialChanged | None) -> None:
        # Reads in flight are returned to their callers but not cached.
        self._invalidations += 1
        self._hangs_until = 0.0
        self._cache.clear()
        self._reading.clear()


async def _properties(persons: Persons, distinct_id: str) -> Properties:
    properties = await persons.properties(distinct_id)
    encoded = msgspec.json.encode(properties)
    if len(encoded) > MAX_BYTES:
        raise PostHogError(f"the person has more than {MAX_BYTES} bytes of properties")
    if is_too_deep(encoded):
        raise PostHogError("the person has properties that are nested too deeply")
    return properties


def _count_not_requested() -> None:
    # Counted but not logged: a request for a thousand persons would log a thousand lines. The
    # reason was logged when it occurred.
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

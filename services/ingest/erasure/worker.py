"""Finishes erasures: announces each, deletes events, and sweeps the streams twice.

A batch that was stored before an erasure may be published a moment after it, hence the second
sweep. Every stream is read from end to end, which may take minutes: all erasures that wait are
swept for together, and others begin meanwhile. Every step may be repeated, so a replica that dies
leaves nothing that another cannot go on with.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import msgspec
import structlog

from hogsend.contract import subjects
from hogsend.contract.contacts import ContactErased
from hogsend.contract.errors import HogsendError
from hogsend.contract.headers import message_headers
from hogsend.service import metrics
from hogsend.service.tasks import cancel_all
from hogsend.transport.connection import Connection
from hogsend.transport.publisher import OutgoingMessage, Publisher
from services.ingest.erasure.jobs import CLAIM_SECONDS, ErasureJobs, Job
from services.ingest.erasure.sweep import Erased, sweep

log = structlog.get_logger(__name__)

PAUSE_SECONDS = 5.0
RENEW_SECONDS = CLAIM_SECONDS / 4
"""Pause between two renewals, of which some may fail."""
SWEPT_TOGETHER = 100
"""Erasures at most that the streams are read for at a time."""
MAX_USER_IDS = 200
"""User ids that an announcement names at most."""
MAX_USER_ID_CHARACTERS = 1000


class ErasureWorker:
    """Does what `ErasureJobs` records."""

    def __init__(self, jobs: ErasureJobs, link: Connection, publisher: Publisher) -> None:
        """Work through `jobs`, on the streams behind `link`."""
        self._jobs = jobs
        self._link = link
        self._publisher = publisher
        self._requested = asyncio.Event()
        self._begun = asyncio.Event()

    def wake(self) -> None:
        """Look for jobs at once."""
        self._requested.set()

    async def begin_forever(self) -> None:
        """Announce what is requested, and delete its events, whatever is swept; never ends."""
        await self._work(self._begin, asked=self._requested, begun=False, most=1)

    async def sweep_forever(self) -> None:
        """Sweep the streams for what was begun; never ends."""
        await self._work(self._sweep, asked=self._begun, begun=True, most=SWEPT_TOGETHER)

    async def _work(
        self,
        do: Callable[[Sequence[Job]], Awaitable[None]],
        *,
        asked: asyncio.Event,
        begun: bool,
        most: int,
    ) -> None:
        while True:
            asked.clear()
            jobs: Sequence[Job] = ()
            try:
                while jobs := await self._jobs.claim(begun=begun, most=most):
                    async with self._kept(jobs, begun=begun):
                        await do(jobs)
                    jobs = ()
            except HogsendError as error:
                if not jobs:
                    # As at each start, while PostgreSQL is not there yet.
                    log.debug("erasures are looked for later", reason=str(error))
                for job in jobs:
                    _say_waiting(job, error)
            try:
                async with asyncio.timeout(PAUSE_SECONDS):
                    await asked.wait()
            except TimeoutError:
                continue

    @asynccontextmanager
    async def _kept(self, jobs: Sequence[Job], *, begun: bool) -> AsyncIterator[None]:
        """Keep other replicas from doing the same meanwhile, however long it takes."""
        renewing = asyncio.create_task(self._renew(jobs, begun=begun))
        try:
            yield
        finally:
            await cancel_all(renewing)

    async def _renew(self, jobs: Sequence[Job], *, begun: bool) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            try:
                await self._jobs.renew(jobs, begun=begun)
            except HogsendError as error:
                metrics.FAILURES.labels("erasure_renewal", type(error).__name__).inc()
                log.debug("another replica may do the same", reason=str(error))

    async def _begin(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            await self._publisher.publish(announcement(job))
            await self._jobs.delete_events(job)
            await self._jobs.begun(job)
            self._begun.set()

    async def _sweep(self, jobs: Sequence[Job]) -> None:
        ready: list[Job] = []
        for job in jobs:
            try:
                # Again: a replica of the version before may have died before it did so.
                await self._jobs.delete_events(job)
            except HogsendError as error:
                # It waits alone.
                _say_waiting(job, error)
            else:
                ready.append(job)
        if not ready:
            return
        erased = {job.id: Erased(job.person, job.requested_at) for job in ready}
        messages: Counter[Erased] = Counter()
        try:
            async for about in sweep(self._link, list(erased.values())):
                messages.update(about)
        except HogsendError:
            for job in ready:
                await self._jobs.deleted(job, messages=messages[erased[job.id]])
            raise
        for job in ready:
            count = messages[erased[job.id]]
            await self._jobs.swept(job, messages=count)
            log.info(
                "the streams were swept for a person",
                erasure=str(job.id),
                messages=count,
                finished=job.is_swept,
            )


def _say_waiting(job: Job, error: HogsendError) -> None:
    metrics.FAILURES.labels("erasure", type(error).__name__).inc()
    log.warning("an erasure is waiting", erasure=str(job.id), reason=str(error))


def announcement(job: Job) -> OutgoingMessage:
    """What subscribers are told; repeats have the same message id."""
    ids = sorted(id for id in job.person.user_ids if len(id) <= MAX_USER_ID_CHARACTERS)
    erased = ContactErased(
        id=str(job.id),
        contact_id=str(job.contact_id),
        user_ids=ids[:MAX_USER_IDS],
        erased_at=job.requested_at,
    )
    return OutgoingMessage(
        subjects.contact_erased(erased.contact_id),
        msgspec.json.encode(erased),
        message_headers(
            id=f"erasure:{job.id}", source="ingest", type="contact.erased", time=job.requested_at
        ),
    )

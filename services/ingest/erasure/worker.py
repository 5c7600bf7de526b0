"""Finishes erasures: announces each, deletes its events, and sweeps the streams.

There are at least two sweeps. The second one is for batches that were stored before the erasure and
published after the first sweep. Sweeps are repeated until one finds no message.

A sweep reads every stream from end to end, which may take minutes. So one sweep serves all erasures
that wait, and other erasures are announced meanwhile. Every step may be repeated: if a replica
dies, another one continues.
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
"""Pause between two renewals of a claim; some of them may fail before it ends."""
MAX_JOBS_PER_SWEEP = 100
"""Most erasures that one sweep serves."""
MAX_USER_IDS = 200
"""Most user ids in an announcement."""
MAX_USER_ID_CHARACTERS = 1000
"""Longer user ids are not announced."""


class ErasureWorker:
    """Does the steps of the jobs in `ErasureJobs`."""

    def __init__(self, jobs: ErasureJobs, link: Connection, publisher: Publisher) -> None:
        """Work through `jobs`; sweep over `link` and announce with `publisher`."""
        self._jobs = jobs
        self._link = link
        self._publisher = publisher
        self._requested = asyncio.Event()
        self._announced = asyncio.Event()

    def wake(self) -> None:
        """Check for requested jobs now instead of after the pause."""
        self._requested.set()

    async def start_forever(self) -> None:
        """Announce requested erasures and delete their events, also during a sweep; never ends."""
        await self._work(self._start, wake=self._requested, announced=False, limit=1)

    async def sweep_forever(self) -> None:
        """Sweep the streams for erasures that were announced; never ends."""
        await self._work(
            self._sweep, wake=self._announced, announced=True, limit=MAX_JOBS_PER_SWEEP
        )

    async def _work(
        self,
        do: Callable[[Sequence[Job]], Awaitable[None]],
        *,
        wake: asyncio.Event,
        announced: bool,
        limit: int,
    ) -> None:
        while True:
            wake.clear()
            jobs: Sequence[Job] = ()
            try:
                while jobs := await self._jobs.claim(announced=announced, limit=limit):
                    async with self._renewed(jobs, announced=announced):
                        await do(jobs)
                    jobs = ()
            except HogsendError as error:
                if not jobs:
                    # Happens at each start, while PostgreSQL is not connected yet.
                    log.debug("erasure jobs cannot be claimed yet", reason=str(error))
                for job in jobs:
                    _log_waiting(job, error)
            try:
                async with asyncio.timeout(PAUSE_SECONDS):
                    await wake.wait()
            except TimeoutError:
                continue

    @asynccontextmanager
    async def _renewed(self, jobs: Sequence[Job], *, announced: bool) -> AsyncIterator[None]:
        """Renew the claims during the block, however long it takes."""
        renewing = asyncio.create_task(self._renew_forever(jobs, announced=announced))
        try:
            yield
        finally:
            await cancel_all(renewing)

    async def _renew_forever(self, jobs: Sequence[Job], *, announced: bool) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            try:
                await self._jobs.renew(jobs, announced=announced)
            except HogsendError as error:
                metrics.FAILURES.labels("erasure_renewal", type(error).__name__).inc()
                log.debug("the claim of an erasure was not renewed", reason=str(error))

    async def _start(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            await self._publisher.publish(announcement(job))
            await self._jobs.delete_events(job)
            await self._jobs.mark_announced(job)
            self._announced.set()

    async def _sweep(self, jobs: Sequence[Job]) -> None:
        ready: list[Job] = []
        for job in jobs:
            try:
                # Repeated: a replica of the previous version announces before it deletes events,
                # and may have died in between.
                await self._jobs.delete_events(job)
            except HogsendError as error:
                # The other jobs are swept for without it.
                _log_waiting(job, error)
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
                await self._jobs.record_deleted(job, messages=messages[erased[job.id]])
            raise
        for job in ready:
            count = messages[erased[job.id]]
            finished = await self._jobs.record_sweep(job, messages=count)
            log.info(
                "the streams were swept for a person",
                erasure=str(job.id),
                messages=count,
                finished=finished,
            )


def _log_waiting(job: Job, error: HogsendError) -> None:
    metrics.FAILURES.labels("erasure", type(error).__name__).inc()
    log.warning("an erasure is waiting", erasure=str(job.id), reason=str(error))


def announcement(job: Job) -> OutgoingMessage:
    """The message that announces an erasure; a repetition has the same message id."""
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

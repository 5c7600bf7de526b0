"""Finishes erasures: announces each, deletes events, and sweeps the streams twice.

A batch that was stored before an erasure may be published a moment after it, hence the second
sweep. Every step may be repeated, so a replica that dies leaves nothing that another cannot go on
with.
"""

from __future__ import annotations

import asyncio

import msgspec
import structlog

from hogsend.contract import subjects
from hogsend.contract.contacts import ContactErased
from hogsend.contract.errors import HogsendError
from hogsend.contract.headers import message_headers
from hogsend.service import metrics
from hogsend.transport.connection import Connection
from hogsend.transport.publisher import OutgoingMessage, Publisher
from services.ingest.erasure.jobs import ErasureJobs, Job
from services.ingest.erasure.sweep import sweep

log = structlog.get_logger(__name__)

PAUSE_SECONDS = 5.0
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
        self._asked = asyncio.Event()

    def wake(self) -> None:
        """Look for jobs at once."""
        self._asked.set()

    async def work_forever(self) -> None:
        """Do jobs as they become due; never ends."""
        while True:
            self._asked.clear()
            job: Job | None = None
            try:
                while (job := await self._jobs.claim()) is not None:
                    await self._do(job)
                    job = None
            except HogsendError as error:
                if job is None:
                    # As at each start, while PostgreSQL is not there yet.
                    log.debug("erasures are looked for later", reason=str(error))
                else:
                    metrics.FAILURES.labels("erasure", type(error).__name__).inc()
                    log.warning("an erasure is waiting", erasure=str(job.id), reason=str(error))
            try:
                async with asyncio.timeout(PAUSE_SECONDS):
                    await self._asked.wait()
            except TimeoutError:
                continue

    async def _do(self, job: Job) -> None:
        if not job.is_announced:
            await self._publisher.publish(announcement(job))
            await self._jobs.announced(job)
        events = await self._jobs.delete_events(job)
        messages = 0
        try:
            async for _ in sweep(self._link, job.person, job.requested_at):
                messages += 1
        except HogsendError:
            await self._jobs.deleted(job, messages=messages)
            raise
        await self._jobs.swept(job, messages=messages)
        log.info(
            "a person was erased",
            erasure=str(job.id),
            events=events,
            messages=messages,
            finished=job.is_swept,
        )


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

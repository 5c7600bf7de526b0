"""Starts, lists and cancels backfills; `runner` runs them."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import msgspec

from hogsend.contract.backfills import Backfill, BackfillList, BackfillReply, StartBackfill
from hogsend.contract.errors import InvalidRequest, NotFound
from hogsend.contract.moments import EARLIEST
from hogsend.contract.provisioning import Refusal
from hogsend.posthog.api import EventRange, PostHogError, Queries
from hogsend.service.nul import text_without_nul
from services.provisioner.backfill.job import Job, ProjectCount
from services.provisioner.backfill.posthog_events import (
    AGAIN_REMEDY,
    IN_PARTS_REMEDY,
    PostHogEvents,
    Refused,
    is_too_heavy,
)
from services.provisioner.backfill.store import AlreadyRunning, BackfillStore
from services.provisioner.destination.posthog_errors import describe

BUSY = "backfill_running"


class Backfills:
    """The backfills, as operators manage them."""

    def __init__(
        self, store: BackfillStore, posthog: PostHogEvents, wake: Callable[[], None]
    ) -> None:
        """Store backfills in `store`, and call `wake` when one is to be run."""
        self._store = store
        self._posthog = posthog
        self._wake = wake

    async def start(self, request: StartBackfill) -> BackfillReply:
        """Count the events, then start a backfill, or resume the same one if it did not finish.

        A dry run only counts.

        Raises:
            InvalidRequest: `since` is not before `until`, or not in the past.
            Unavailable: PostgreSQL or the credentials service is down.
        """
        # PostgreSQL stores no NUL. PostHog replaces it in event names with the same U+FFFD.
        names = [text_without_nul(name) for name in request.events]
        now = await self._store.now()
        # A future `until` is the same as none, so that a repeated request matches the backfill
        # that it started.
        end = request.until if request.until is not None and request.until < now else None
        # PostgreSQL's driver reads the first time of Python's range as a naive one.
        since = max(request.since, EARLIEST)
        request = msgspec.structs.replace(request, since=since, events=names, until=end)
        until = end or now
        if request.since >= until:
            raise InvalidRequest("since must be before until, and in the past")
        running = await self._store.running()
        if running is not None and not request.dry_run:
            if running.matches(request):
                return BackfillReply(backfill=running.to_backfill())
            return BackfillReply(refusal=_busy(running))
        events = sorted(request.events)
        try:
            # The count also checks that PostHog can be queried, before anything is stored.
            count = await self._count(EventRange(since=request.since, until=until, events=events))
            if request.dry_run:
                return BackfillReply(count=count.total)
            unfinished = await self._store.unfinished(request, count.project)
            job = (
                await self._store.resume(unfinished, count.project)
                if unfinished is not None
                else await self._store.create(request, count, until, now)
            )
        except Refused as error:
            return BackfillReply(refusal=error.refusal)
        except AlreadyRunning:
            return BackfillReply(refusal=_busy(await self._store.running()))
        self._wake()
        return BackfillReply(backfill=job.to_backfill())

    async def _count(self, events: EventRange) -> ProjectCount:
        async def count(queries: Queries) -> ProjectCount:
            return ProjectCount(await queries.count(events), queries.project)

        try:
            return await self._posthog.query(count)
        except PostHogError as error:
            wait = f" Wait {error.retry_after:.0f} seconds." if error.retry_after else ""
            remedy = IN_PARTS_REMEDY if is_too_heavy(error) else AGAIN_REMEDY
            refusal = Refusal(
                reason="posthog",
                code="api-error",
                detail=describe(error),
                remediation=f"{remedy}{wait}",
            )
            raise Refused(refusal) from error

    async def latest(self) -> BackfillList:
        """List the latest backfills."""
        return BackfillList(backfills=[job.to_backfill() for job in await self._store.latest()])

    async def cancel(self, id: str) -> Backfill:
        """Cancel a backfill. A backfill that has ended is returned unchanged.

        Raises:
            NotFound: there is no backfill with this id.
        """
        try:
            uuid = UUID(id)
        except ValueError as error:
            raise NotFound("there is no such backfill") from error
        job = await self._store.end(uuid, "cancelled") or await self._store.get(uuid)
        if job is None:
            raise NotFound("there is no such backfill")
        return job.to_backfill()


def _busy(job: Job | None) -> Refusal:
    since = f" since {job.since.isoformat()}" if job is not None else ""
    return Refusal(
        reason="precondition",
        code=BUSY,
        detail=f"Another backfill{since} runs; there is one at a time.",
        remediation="Wait for it with `hogsend backfill status`, or stop it with "
        "`hogsend backfill cancel`.",
    )

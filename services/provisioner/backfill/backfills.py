"""Starts, shows and cancels backfills; `runner` does the work."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import msgspec

from hogsend.contract.backfills import (
    Backfill,
    BackfillList,
    BackfillReply,
    StartBackfill,
)
from hogsend.contract.errors import InvalidRequest, NotFound
from hogsend.contract.provisioning import Refusal
from hogsend.posthog.api import EventRange, PostHogError, Queries
from hogsend.service.nul import text_without_nul
from services.provisioner.backfill.posthog_events import (
    AGAIN_REMEDY,
    IN_PARTS_REMEDY,
    PostHogEvents,
    Refused,
    is_too_heavy,
)
from services.provisioner.backfill.store import AnotherRuns, BackfillStore, Counted, Job
from services.provisioner.destination.errors import describe

BUSY = "backfill_running"


class Backfills:
    """What operators ask for."""

    def __init__(
        self, store: BackfillStore, posthog: PostHogEvents, wake: Callable[[], None]
    ) -> None:
        """Keep backfills in `store`, and call `wake` when there is something to do."""
        self._store = store
        self._posthog = posthog
        self._wake = wake

    async def start(self, wanted: StartBackfill) -> BackfillReply:
        """Count, and start unless that is all; or go on with what did not finish.

        Raises:
            InvalidRequest: no time lies between `since` and `until`.
            Unavailable: PostgreSQL or the credentials service is down.
        """
        # PostHog has no NUL in a name either, and the same U+FFFD in its place.
        names = [text_without_nul(name) for name in wanted.events]
        now = await self._store.now()
        # None for a time that is still to come, too: the same again is not another one.
        end = wanted.until if wanted.until is not None and wanted.until < now else None
        wanted = msgspec.structs.replace(wanted, events=names, until=end)
        until = end or now
        if wanted.since >= until:
            raise InvalidRequest("since must be before until, and in the past")
        running = await self._store.running()
        if running is not None and not wanted.dry_run:
            if running.does(wanted):
                return BackfillReply(backfill=running.shown)
            return BackfillReply(refusal=_busy(running))
        events = sorted(wanted.events)
        try:
            # Also says whether PostHog may be asked at all, before anything is kept.
            counted = await self._count(EventRange(since=wanted.since, until=until, events=events))
            if wanted.dry_run:
                return BackfillReply(count=counted.total)
            before = await self._store.unfinished(wanted, counted.project)
            job = (
                await self._store.resume(before, counted.project)
                if before is not None
                else await self._store.begin(wanted, counted, until, now)
            )
        except Refused as error:
            return BackfillReply(refusal=error.refusal)
        except AnotherRuns:
            return BackfillReply(refusal=_busy(await self._store.running()))
        self._wake()
        return BackfillReply(backfill=job.shown)

    async def _count(self, wanted: EventRange) -> Counted:
        async def count(queries: Queries) -> Counted:
            return Counted(await queries.count(wanted), queries.project)

        try:
            return await self._posthog.ask(count)
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
        return BackfillList(backfills=[job.shown for job in await self._store.latest()])

    async def cancel(self, id: str) -> Backfill:
        """Stop a backfill; one that has ended stays as it is.

        Raises:
            NotFound: there is none with this id.
        """
        try:
            known = UUID(id)
        except ValueError as error:
            raise NotFound("there is no such backfill") from error
        job = await self._store.end(known, "cancelled") or await self._store.one(known)
        if job is None:
            raise NotFound("there is no such backfill")
        return job.shown


def _busy(job: Job | None) -> Refusal:
    since = f" since {job.since.isoformat()}" if job is not None else ""
    return Refusal(
        reason="precondition",
        code=BUSY,
        detail=f"Another backfill{since} runs; there is one at a time.",
        remediation="Wait for it with `hogsend backfill status`, or stop it with "
        "`hogsend backfill cancel`.",
    )

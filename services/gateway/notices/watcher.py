"""Checks for problems, and queues one notice when a problem starts and one when it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Never
from uuid import uuid4

import structlog

from hogsend.contract.base import Empty
from hogsend.contract.errors import HogsendError
from hogsend.contract.notices import INGEST_CLAIM_NOTICE, INGEST_TOLD, ClaimNotice
from hogsend.service.metrics import FAILURES
from hogsend.service.tasks import cancel_all
from hogsend.transport.connection import Connection
from services.gateway.notices.notice import Notice, Problem, raised, resolved
from services.gateway.notices.outbox import Outbox, PendingNotice
from services.gateway.notices.sender import NoticeSender
from services.gateway.notices.watches import Watch

log = structlog.get_logger(__name__)

OPEN_SECONDS = 5.0
"""Interval at which a gateway tries to open the outbox that another gateway has locked."""


class NoticeWatcher:
    """Compares the current problems with those that were reported, and queues notices.

    If several gateways find the same problem, ingest decides which one sends the notice: each
    claims it, and one claim is granted (ADR 23).

    Invariant: a notice is in the outbox before it is claimed, and is claimed again until ingest
    decides.
    Why: the claim has the id of the notice, so repeating it has the same outcome.
    Without it: a crash between claim and delivery would lose the notice, because ingest would
    refuse every other claim.
    """

    def __init__(
        self, bus: Connection, outbox: Outbox, watched: Sequence[Watch], sender: NoticeSender
    ) -> None:
        self._bus = bus
        self._outbox = outbox
        self._watched = watched
        self._sender = sender

    async def run(self) -> None:
        """Run all checks, and the sender, until cancelled."""
        while not await asyncio.to_thread(self._outbox.open):  # noqa: ASYNC110 - a file lock
            await asyncio.sleep(OPEN_SECONDS)
        tasks = [asyncio.create_task(self._keep_checking(watch)) for watch in self._watched]
        tasks.append(asyncio.create_task(self._sender.run()))
        try:
            await asyncio.gather(*tasks)
        finally:
            await cancel_all(*tasks)
            self._outbox.close()

    async def check(self, watch: Watch) -> None:
        """Run one check, and queue notices of what changed."""
        if not watch.local:
            await self._claim_again(watch)
            if self._unclaimed(watch):
                return
        problems = await watch.check()
        if problems is None:
            return
        if watch.local:
            await self._report_local(watch, problems)
            return
        try:
            reported = (await self._bus.request(INGEST_TOLD, Empty())).problems
        except HogsendError as error:
            FAILURES.labels("notices", error.code).inc()
            log.debug("the reported problems are not known", kind=watch.kind, reason=str(error))
            return
        subjects = [problem.subject for problem in reported if problem.kind == watch.kind]
        for notice in _changes(watch, problems, subjects):
            pending = PendingNotice(uuid4(), notice, claimed=False)
            await self._outbox.add(pending)
            await self._claim(pending)

    async def _keep_checking(self, watch: Watch) -> Never:
        while True:
            await self.check(watch)
            await asyncio.sleep(watch.seconds)

    async def _report_local(self, watch: Watch, problems: Mapping[str, Problem]) -> None:
        reported = self._outbox.reported_here
        for notice in _changes(watch, problems, reported):
            subject = notice.data.subject
            is_raised = notice.data.state == "raised"
            reported = reported | {subject} if is_raised else reported - {subject}
            pending = PendingNotice(uuid4(), notice, claimed=True)
            await self._outbox.add(pending, reported_here=reported)

    def _unclaimed(self, watch: Watch) -> list[PendingNotice]:
        return [
            pending
            for pending in self._outbox.pending
            if not pending.claimed and pending.notice.type == watch.kind
        ]

    async def _claim_again(self, watch: Watch) -> None:
        for pending in self._unclaimed(watch):
            await self._claim(pending)

    async def _claim(self, pending: PendingNotice) -> None:
        notice = pending.notice
        claim = ClaimNotice(
            id=pending.id,
            kind=notice.type,
            subject=notice.data.subject,
            state=notice.data.state,
        )
        try:
            outcome = (await self._bus.request(INGEST_CLAIM_NOTICE, claim)).outcome
        except HogsendError as error:
            FAILURES.labels("notices", error.code).inc()
            log.debug("a notice waits to be claimed", id=str(pending.id), reason=str(error))
            return
        if outcome == "claimed":
            pending.claimed = True
            await self._outbox.save()
        else:
            # Another gateway sends it, or the next check finds the problem again.
            await self._outbox.remove(pending)


def _changes(
    watch: Watch, problems: Mapping[str, Problem], reported: Iterable[str]
) -> list[Notice]:
    """Return notices of problems that are not reported yet, and of reported ones that ended."""
    now, before = datetime.now(UTC), set(reported)
    started = sorted(problems.keys() - before)
    ended = sorted(before - problems.keys())
    return [raised(watch.kind, subject, problems[subject], now) for subject in started] + [
        resolved(watch.kind, subject, now) for subject in ended
    ]

"""Looks for problems, and has each told once when it comes and once when it goes."""

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
from services.gateway.notices.outbox import Outbox, Waiting
from services.gateway.notices.sender import NoticeSender
from services.gateway.notices.watches import Watch

log = structlog.get_logger(__name__)

OPEN_SECONDS = 5.0
"""How often a gateway tries to get the outbox that another one of its machine has."""


class NoticeWatcher:
    """Compares what is with what was told.

    Of several gateways one tells a problem they all see: which one ingest decides (ADR 23). What
    is in the outbox and not decided is asked again under its id, so a crash in between loses
    nothing.
    """

    def __init__(
        self, bus: Connection, outbox: Outbox, watched: Sequence[Watch], sender: NoticeSender
    ) -> None:
        self._bus = bus
        self._outbox = outbox
        self._watched = watched
        self._sender = sender

    async def run(self) -> None:
        """Look and tell; never ends."""
        while not await asyncio.to_thread(self._outbox.open):  # noqa: ASYNC110 - a lock of a file
            await asyncio.sleep(OPEN_SECONDS)
        tasks = [asyncio.create_task(self._keep_looking(watch)) for watch in self._watched]
        tasks.append(asyncio.create_task(self._sender.run()))
        try:
            await asyncio.gather(*tasks)
        finally:
            await cancel_all(*tasks)
            self._outbox.close()

    async def look(self, watch: Watch) -> None:
        """Look once, and have told what changed."""
        if not watch.local:
            await self._claim_again(watch)
            if self._undecided(watch):
                return
        found = await watch.look()
        if found is None:
            return
        if watch.local:
            await self._tell_here(watch, found)
            return
        try:
            told = (await self._bus.request(INGEST_TOLD, Empty())).problems
        except HogsendError as error:
            FAILURES.labels("notices", error.code).inc()
            log.debug("it is not known what was told", kind=watch.kind, reason=str(error))
            return
        known = [one.subject for one in told if one.kind == watch.kind]
        for notice in _changes(watch, found, known):
            waiting = Waiting(uuid4(), notice, claimed=False)
            await self._outbox.add(waiting)
            await self._claim(waiting)

    async def _keep_looking(self, watch: Watch) -> Never:
        while True:
            await self.look(watch)
            await asyncio.sleep(watch.seconds)

    async def _tell_here(self, watch: Watch, found: Mapping[str, Problem]) -> None:
        known = self._outbox.told_here
        for notice in _changes(watch, found, known):
            subject = notice.data.subject
            known = known | {subject} if notice.data.state == "raised" else known - {subject}
            await self._outbox.add(Waiting(uuid4(), notice, claimed=True), told_here=known)

    def _undecided(self, watch: Watch) -> list[Waiting]:
        return [
            waiting
            for waiting in self._outbox.waiting
            if not waiting.claimed and waiting.notice.type == watch.kind
        ]

    async def _claim_again(self, watch: Watch) -> None:
        for waiting in self._undecided(watch):
            await self._claim(waiting)

    async def _claim(self, waiting: Waiting) -> None:
        notice = waiting.notice
        wanted = ClaimNotice(
            id=waiting.id,
            kind=notice.type,
            subject=notice.data.subject,
            state=notice.data.state,
        )
        try:
            outcome = (await self._bus.request(INGEST_CLAIM_NOTICE, wanted)).outcome
        except HogsendError as error:
            FAILURES.labels("notices", error.code).inc()
            log.debug("a notice waits to be claimed", id=str(waiting.id), reason=str(error))
            return
        if outcome == "claimed":
            waiting.claimed = True
            await self._outbox.save()
        else:
            # Told by another gateway, or to be seen again at the next look.
            await self._outbox.remove(waiting)


def _changes(watch: Watch, found: Mapping[str, Problem], told: Iterable[str]) -> list[Notice]:
    now, known = datetime.now(UTC), set(told)
    came = [raised(watch.kind, one, found[one], now) for one in sorted(found.keys() - known)]
    return came + [resolved(watch.kind, one, now) for one in sorted(known - found.keys())]

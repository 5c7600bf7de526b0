"""Decides which gateway notifies the operator's webhook: the first that claims a notice."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import aiosql

from hogsend.contract.notices import ClaimedNotice, ClaimNotice, Told, ToldProblems
from hogsend.service.database import Database

_queries: Any = aiosql.from_path(Path(__file__).with_name("notices.sql"), "asyncpg")

PAUSE = timedelta(minutes=1)
"""A problem that is raised again within this time is not notified yet. So an intermittent problem
leads to two notices a minute at most."""


class NoticeClaims:
    """The last notice about each problem. Raises `Unavailable` while PostgreSQL is unavailable."""

    def __init__(self, database: Database, pause: timedelta = PAUSE) -> None:
        self._database = database
        self._pause = pause

    async def notified(self) -> ToldProblems:
        """List the problems that the operator was notified of and that are not resolved."""
        async with self._database.acquire() as connection:
            return ToldProblems([Told(**dict(row)) async for row in _queries.raised(connection)])

    async def claim(self, request: ClaimNotice) -> ClaimedNotice:
        """Give a notice to the first gateway that claims it.

        A gateway that repeats its claim, because the reply was lost, gets it again.
        """
        about = {"kind": request.kind, "subject": request.subject}
        async with self._database.acquire() as connection:
            if request.state == "raised":
                claimed = await _queries.raise_notice(
                    connection, **about, id=request.id, pause=self._pause
                )
            else:
                claimed = await _queries.resolve_notice(connection, **about, id=request.id)
                await _queries.forget_old(connection)
            if claimed:
                return ClaimedNotice("claimed")
            last = await _queries.last_notice(connection, **about)
        if last is None:
            return ClaimedNotice("told")
        if last["id"] == request.id and last["state"] == request.state:
            return ClaimedNotice("claimed")
        return ClaimedNotice("told" if last["state"] == request.state else "wait")

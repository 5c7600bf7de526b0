"""Decides which gateway notifies the operator's webhook: the first that asks, and no other."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import aiosql

from hogsend.contract.notices import ClaimedNotice, ClaimNotice, Told, ToldProblems
from hogsend.service.database import Database

_queries: Any = aiosql.from_path(Path(__file__).with_name("notices.sql"), "asyncpg")

PAUSE = timedelta(minutes=1)
"""A problem that comes back is told again after this long: one that comes and goes all the time is
told of twice a minute at most."""


class NoticeClaims:
    """What was told last of each problem. Raises `Unavailable` without PostgreSQL."""

    def __init__(self, database: Database, pause: timedelta = PAUSE) -> None:
        self._database = database
        self._pause = pause

    async def told(self) -> ToldProblems:
        """Give the problems that the operator was notified of and that are not over."""
        async with self._database.acquire() as connection:
            return ToldProblems([Told(**dict(row)) async for row in _queries.raised(connection)])

    async def claim(self, wanted: ClaimNotice) -> ClaimedNotice:
        """Let the first who asks tell it."""
        about = {"kind": wanted.kind, "subject": wanted.subject}
        async with self._database.acquire() as connection:
            if wanted.state == "raised":
                claimed = await _queries.raise_notice(
                    connection, **about, id=wanted.id, pause=self._pause
                )
            else:
                claimed = await _queries.resolve_notice(connection, **about, id=wanted.id)
                await _queries.forget_old(connection)
            if claimed:
                return ClaimedNotice("claimed")
            last = await _queries.told(connection, **about)
        if last is None:
            return ClaimedNotice("told")
        if last["id"] == wanted.id and last["state"] == wanted.state:
            return ClaimedNotice("claimed")
        return ClaimedNotice("told" if last["state"] == wanted.state else "wait")

"""Waiting until somebody else's statement waits for a lock of PostgreSQL's."""

from __future__ import annotations

from typing import Any

from tests.waiting import eventually


async def waiting_for_a_lock(connection: Any, statement: str = "") -> None:
    """Wait until a statement of this database, with `statement` in it, waits for a lock."""

    async def waits() -> bool:
        return bool(
            await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                " AND datname = current_database() AND strpos(query, $1) > 0",
                statement,
            )
        )

    await eventually(waits)

"""Waits until a statement of another connection is blocked by a lock in PostgreSQL."""

from __future__ import annotations

from typing import Any

from tests.waiting import eventually


async def waiting_for_a_lock(connection: Any, statement: str = "") -> None:
    """Wait until a statement that contains `statement` waits for a lock in this database."""

    async def is_blocked() -> bool:
        return bool(
            await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                " AND datname = current_database() AND strpos(query, $1) > 0",
                statement,
            )
        )

    await eventually(is_blocked)

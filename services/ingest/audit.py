"""Stores and lists the audit trail of admin requests, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiosql
import asyncpg
import msgspec

from hogsend.contract.audit import MAX_RESOURCE, AuditEntry, AuditPage, ListAudit
from hogsend.contract.errors import Unavailable
from hogsend.contract.json_text import NOT_JSON
from hogsend.service.database import Database
from hogsend.service.dead_letters import DeadLetters, Unprocessable
from hogsend.service.nul import json_without_nul, text_without_nul
from hogsend.service.queued_message import QueuedMessage
from hogsend.service.retry import retry_until_available
from services.ingest import metrics
from services.ingest.dead_letters import publish as dead_lettering
from services.ingest.dead_letters.publish import Failure
from services.ingest.list_snapshot import list_snapshot
from services.ingest.pages import (
    EXACT_TOTAL,
    AuditPosition,
    count_or_estimate,
    decode_cursor,
    encode_cursor,
)

_queries: Any = aiosql.from_path(Path(__file__).with_name("audit.sql"), "asyncpg")
_decode = msgspec.json.Decoder(AuditEntry).decode

LIST_SECONDS = 1.0
"""Time limit of each statement for a page; the caller waits for two seconds."""


class AuditTrail:
    """Stores and lists entries. `page` raises `Unavailable` while PostgreSQL is unavailable."""

    def __init__(self, database: Database, dead_letters: DeadLetters) -> None:
        self._database = database
        self._dead_letters = dead_letters

    async def process(self, messages: Sequence[QueuedMessage]) -> None:
        """Store a batch of entries, each once, and acknowledge them; dead-letter invalid messages.

        Waits without limit until PostgreSQL is available.
        """
        with metrics.measured(messages):
            await self._process(messages)

    async def _process(self, messages: Sequence[QueuedMessage]) -> None:
        decoded: list[tuple[QueuedMessage, AuditEntry]] = []
        failures: list[Failure] = []
        for message in messages:
            try:
                decoded.append((message, _decode(json_without_nul(message.data))))
            except NOT_JSON as error:
                failures.append(Failure(message, Unprocessable("malformed", str(error))))
        entries = [entry for _, entry in decoded]
        rejections, _ = await retry_until_available(lambda: self._save(entries))
        for (message, _), why in zip(decoded, rejections, strict=True):
            if why is None:
                await message.ack()
            else:
                failures.append(Failure(message, why))
        await dead_lettering.publish(self._dead_letters, failures)

    async def page(self, request: ListAudit) -> AuditPage:
        """List entries, newest first."""
        filters = {
            "action": text_without_nul(request.action),
            "actor": text_without_nul(request.actor),
        }
        before = decode_cursor(AuditPosition, request.before)
        hint = "continue with before instead of offset"
        async with list_snapshot(self._database, LIST_SECONDS, hint) as connection:
            total, estimated = await count_or_estimate(
                await _queries.expected_total_audit(connection, **filters),
                lambda: _queries.total_audit(connection, **filters, most=EXACT_TOTAL + 1),
                exact=EXACT_TOTAL,
            )
            rows = _queries.audit(
                connection,
                **filters,
                before=before is not None,
                before_at=before and before.at,
                before_id=before and before.id,
                # One more than requested shows whether there is another page.
                limit=request.limit + 1,
                offset=request.offset,
                most=MAX_RESOURCE,
            )
            entries = [AuditEntry(**dict(row)) async for row in rows]
        shown = entries[: request.limit]
        more = len(entries) > len(shown)
        return AuditPage(
            entries=shown,
            total=total,
            total_estimated=estimated,
            limit=request.limit,
            offset=request.offset,
            next_before=encode_cursor(AuditPosition(shown[-1].at, shown[-1].id)) if more else None,
        )

    async def _save(self, entries: Sequence[AuditEntry]) -> list[Unprocessable | None]:
        """Store entries.

        A batch that fails because of one entry is halved until that entry is alone.

        Returns:
            For each entry why PostgreSQL rejects it, or None if it is stored.
        """
        if not entries:
            return []
        document = msgspec.json.encode([msgspec.structs.asdict(entry) for entry in entries])
        try:
            async with self._database.acquire() as connection:
                await _queries.save_audit(connection, entries=document.decode())
        except asyncpg.DataError as error:
            if len(entries) == 1:
                return [Unprocessable("rejected_by_database", f"{type(error).__name__}: {error}")]
            middle = len(entries) // 2
            return await self._save(entries[:middle]) + await self._save(entries[middle:])
        except asyncpg.PostgresError as error:
            raise Unavailable(f"PostgreSQL cannot be used: {type(error).__name__}") from error
        return [None] * len(entries)

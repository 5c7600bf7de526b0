"""Keeps the audit trail."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiosql
import asyncpg
import msgspec
from nats.aio.msg import Msg

from hogsend.contract.audit import AuditEntry, AuditPage, ListAudit
from hogsend.contract.errors import Unavailable
from hogsend.service.database import Database
from hogsend.service.retry import retry_until_available
from services.ingest.dead_letters.publish import DeadLetters, Failure
from services.ingest.events.incoming_event import Unprocessable
from services.ingest.nul import text_without_nul

_queries: Any = aiosql.from_path(Path(__file__).with_name("audit.sql"), "asyncpg")
_decode = msgspec.json.Decoder(AuditEntry).decode


class AuditTrail:
    """Entries in PostgreSQL. `page` raises `Unavailable` while it is away; `process` waits."""

    def __init__(self, database: Database, dead_letters: DeadLetters) -> None:
        """Keep entries in `database`, set aside what is none."""
        self._database = database
        self._dead_letters = dead_letters

    async def process(self, messages: Sequence[Msg]) -> None:
        """Keep a batch of entries, each once, and acknowledge it."""
        entries: list[AuditEntry] = []
        failures: list[Failure] = []
        kept: list[Msg] = []
        for message in messages:
            try:
                entries.append(_decode(message.data))
                kept.append(message)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                failures.append(Failure(message, Unprocessable("malformed", str(error))))
        await retry_until_available(lambda: self._save(entries))
        for message in kept:
            await message.ack()
        await self._dead_letters.publish(failures)

    async def page(self, wanted: ListAudit) -> AuditPage:
        """List entries, newest first."""
        filters = {
            "action": text_without_nul(wanted.action),
            "actor": text_without_nul(wanted.actor),
        }
        async with self._database.acquire() as connection:
            total = await _queries.total_audit(connection, **filters)
            found = _queries.audit(connection, **filters, limit=wanted.limit, offset=wanted.offset)
            entries = [AuditEntry(**dict(row)) async for row in found]
        return AuditPage(entries, total=total, limit=wanted.limit, offset=wanted.offset)

    async def _save(self, entries: Sequence[AuditEntry]) -> None:
        if not entries:
            return
        document = msgspec.json.encode([msgspec.structs.asdict(entry) for entry in entries])
        try:
            async with self._database.acquire() as connection:
                await _queries.save_audit(connection, entries=document.decode())
        except asyncpg.PostgresError as error:
            raise Unavailable(f"PostgreSQL does not work: {type(error).__name__}") from error

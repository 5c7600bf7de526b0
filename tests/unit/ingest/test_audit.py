"""Audit entries are stored, then acknowledged; an invalid entry is dead-lettered alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import pytest

from hogsend.contract.audit import AuditEntry
from hogsend.service.database import Database
from hogsend.service.dead_letters import DeadLetters
from services.ingest import audit
from services.ingest.audit import AuditTrail
from tests.unit.ingest.fakes import NOW, Delivery, FakeMessage, FakePublisher, Journal

ID = UUID("6f2b7a60-5c5b-4f0e-9a55-0f7f0a3c2d11")


class NoDatabase(Database):
    """A database whose connections are None."""

    def __init__(self) -> None:
        pass

    @asynccontextmanager
    async def acquire(self, **_: object) -> AsyncIterator[Any]:
        yield None


class Queries:
    """Saves the entries' resources to a list. Each call raises one of `errors`."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.saved: list[str] = []
        self.errors: list[Exception] = []

    async def save_audit(self, _connection: None, *, entries: str) -> None:
        if self.errors:
            raise self.errors.pop(0)
        resources = [entry["resource"] for entry in msgspec.json.decode(entries)]
        if "refused" in resources:
            raise asyncpg.DataError("integer out of range")
        self.saved += resources
        self._journal.append("commit " + " ".join(resources))


class Trail:
    """An audit trail with the fakes that it calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.journal: Journal = []
        self.queries = Queries(self.journal)
        self.publisher = FakePublisher(self.journal)
        monkeypatch.setattr(audit, "_queries", self.queries)
        self._trail = AuditTrail(NoDatabase(), DeadLetters(self.publisher, "ingest"))

    async def process(self, *resources: str) -> Sequence[FakeMessage]:
        messages = [
            FakeMessage(
                _body(resource),
                subject="hogsend.audit",
                metadata=Delivery("AUDIT"),
                name=resource,
                journal=self.journal,
            )
            for resource in resources
        ]
        await self._trail.process(messages)
        return messages


def _body(resource: str) -> bytes:
    if resource == "malformed":
        return b"nonsense"
    entry = AuditEntry(
        id=ID,
        at=NOW,
        actor="read",
        action="a.put",
        resource=resource,
        status=200,
        request_id="r",
        address="127.0.0.1",
    )
    return msgspec.json.encode(entry)


@pytest.fixture
def trail(monkeypatch: pytest.MonkeyPatch) -> Trail:
    return Trail(monkeypatch)


async def test_a_batch_is_committed_and_then_acknowledged(trail: Trail) -> None:
    await trail.process("a", "b")
    assert trail.journal == ["commit a b", "ack a", "ack b"]


async def test_a_batch_is_committed_after_an_outage_of_postgresql(trail: Trail) -> None:
    trail.queries.errors = [asyncpg.CannotConnectNowError("starting up")] * 2
    await trail.process("a")
    assert trail.journal == ["commit a", "ack a"]


async def test_a_malformed_audit_entry_is_dead_lettered_alone(trail: Trail) -> None:
    await trail.process("a", "malformed", "b")
    assert trail.queries.saved == ["a", "b"]
    (letter,) = trail.publisher.dead_letters()
    assert (letter.stream, letter.reason, letter.body) == ("AUDIT", "malformed", b"nonsense")
    assert "ack malformed" in trail.journal


async def test_an_audit_entry_that_postgresql_refuses_is_dead_lettered_alone(trail: Trail) -> None:
    await trail.process("a", "b", "refused", "c", "d")
    assert trail.queries.saved == ["a", "b", "c", "d"]
    (letter,) = trail.publisher.dead_letters()
    assert letter.reason == "rejected_by_database"
    assert [entry for entry in trail.journal if entry.startswith("ack")] == [
        *("ack a", "ack b", "ack c", "ack d", "ack refused")
    ]


async def test_nul_is_stored_as_a_replacement_character(trail: Trail) -> None:
    await trail.process("a\0b")
    assert trail.queries.saved == ["a\ufffdb"]


async def test_an_audit_entry_that_is_not_committed_is_not_acknowledged(trail: Trail) -> None:
    trail.queries.errors = [RuntimeError("a defect")]
    with pytest.raises(RuntimeError):
        await trail.process("a")
    assert trail.journal == []

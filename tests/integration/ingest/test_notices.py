"""Of several gateways, one alone notifies the operator of a problem (ADR 23)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from hogsend.contract.notices import ClaimNotice, NoticeKind, NoticeState, Told
from hogsend.service.database import Database
from services.ingest.app import MIGRATIONS
from services.ingest.notices import NoticeClaims

KIND: NoticeKind = "dead_letters.waiting"


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, "ingest", MIGRATIONS, pool_size=4)
    await database.connect()
    yield database
    await database.close()


async def claim(claims: NoticeClaims, state: NoticeState, id: UUID | None = None) -> str:
    request = ClaimNotice(id=id or uuid4(), kind=KIND, subject="a", state=state)
    return (await claims.claim(request)).outcome


async def test_one_of_several_gateways_claims_the_notice_of_a_problem_and_of_its_end(
    database: Database,
) -> None:
    claims = NoticeClaims(database, pause=timedelta())
    assert await claim(claims, "resolved") == "told"
    rounds: list[tuple[NoticeState, list[Told]]] = [
        ("raised", [Told(KIND, "a")]),
        ("resolved", []),
        ("raised", [Told(KIND, "a")]),
    ]
    for state, problems in rounds:
        outcomes = await asyncio.gather(*(claim(claims, state) for _ in range(4)))
        assert sorted(outcomes) == ["claimed", "told", "told", "told"]
        assert (await claims.notified()).problems == problems


async def test_the_same_notice_is_claimed_again_after_a_crash(database: Database) -> None:
    claims, id = NoticeClaims(database), uuid4()
    assert [await claim(claims, "raised", id) for _ in range(2)] == ["claimed", "claimed"]


async def test_the_notice_of_a_problem_that_recurs_at_once_is_delayed(database: Database) -> None:
    claims = NoticeClaims(database)
    assert await claim(claims, "raised") == "claimed"
    assert await claim(claims, "resolved") == "claimed"
    assert await claim(claims, "raised") == "wait"

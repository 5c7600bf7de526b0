"""The spool: what it was given is there after any crash, in order, and never beyond its bound."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from hogsend.contract.errors import CannotStart, SpoolFull
from services.gateway.webhooks.queued_webhook import QueuedWebhook
from services.gateway.webhooks.spool import Spool

BIG = 1 << 30


def webhook(number: int, size: int = 10) -> QueuedWebhook:
    return QueuedWebhook(
        f"id-{number}", "hogsend.webhooks.posthog", {"n": str(number)}, b"x" * size
    )


async def test_deliveries_come_out_in_the_order_they_went_in(tmp_path: Path) -> None:
    spool = Spool(tmp_path, BIG)
    await asyncio.gather(*(spool.append(webhook(number)) for number in range(50)))
    assert [item.webhook for item in await spool.head(100)] == [webhook(n) for n in range(50)]
    await spool.close()


async def test_what_was_appended_is_there_for_the_next_process(tmp_path: Path) -> None:
    spool = Spool(tmp_path, BIG)
    await spool.append(webhook(1))
    await spool.close()
    reopened = Spool(tmp_path, BIG)
    assert reopened.count == 1
    assert reopened.bytes > 0
    assert [item.webhook for item in await reopened.head(10)] == [webhook(1)]
    await reopened.close()


async def test_removing_makes_room(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 3_000)
    await spool.append(webhook(1, 1_000))
    await spool.append(webhook(2, 1_000))
    with pytest.raises(SpoolFull):
        await spool.append(webhook(3, 1_000))
    assert spool.count == 2
    await spool.remove((await spool.head(10))[:1])
    await spool.append(webhook(3, 1_000))
    assert [item.webhook.id for item in await spool.head(10)] == ["id-2", "id-3"]
    await spool.remove(await spool.head(10))
    assert (spool.count, spool.bytes) == (0, 0)
    await spool.close()


async def test_a_delivery_set_aside_is_out_of_the_way_until_the_next_start(tmp_path: Path) -> None:
    spool = Spool(tmp_path, BIG)
    await spool.append(webhook(1))
    await spool.append(webhook(2))
    await spool.set_aside((await spool.head(1))[0], "too large")
    assert [item.webhook.id for item in await spool.head(10)] == ["id-2"]
    assert spool.count == 1
    await spool.close()
    reopened = Spool(tmp_path, BIG)
    assert [item.webhook.id for item in await reopened.head(10)] == ["id-1", "id-2"]
    await reopened.close()


async def test_two_processes_cannot_share_a_directory(tmp_path: Path) -> None:
    spool = Spool(tmp_path, BIG)
    await spool.append(webhook(1))
    with pytest.raises(CannotStart, match="SPOOL_DIR"):
        Spool(tmp_path, BIG)
    await spool.close()


async def test_a_disk_that_fails_refuses_instead_of_accepting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path, BIG)

    def full(_rows: list[bytes]) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(spool, "_insert", full)
    with pytest.raises(SpoolFull, match="cannot be written"):
        await spool.append(webhook(1))
    assert (spool.count, spool.bytes) == (0, 0)
    monkeypatch.undo()
    await spool.append(webhook(2))
    assert [item.webhook.id for item in await spool.head(10)] == ["id-2"]
    await spool.close()


async def test_only_its_owner_can_read_the_spool(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", BIG)
    assert (tmp_path / "spool").stat().st_mode & 0o077 == 0
    assert (tmp_path / "spool" / "webhooks.sqlite3").stat().st_mode & 0o077 == 0
    await spool.close()

"""Damage of the spool's files is reported, and the undamaged webhooks are published."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from hogsend.contract.errors import SpoolFull
from services.gateway.webhooks.queued_webhook import QueuedWebhook
from services.gateway.webhooks.spool import file as spool_file
from services.gateway.webhooks.spool.directory import FILES_SET_ASIDE
from services.gateway.webhooks.spool.format import HEADER_SIZE, STATE_OFFSET
from services.gateway.webhooks.spool.salvage import Fragment, Salvaged, salvage
from services.gateway.webhooks.spool.set_aside import NAME as SET_ASIDE_DIRECTORY
from services.gateway.webhooks.spool.spool import Spool
from tests.unit.gateway.spooling import (
    BIG,
    damaged_places,
    drained,
    files,
    filled,
    full,
    ids,
    names_in,
    only_file,
    set_aside,
    unreadable,
    webhook,
)


def _flip(data: bytearray, at: int) -> None:
    data[at] ^= 0x5A


def _zero_a_page(data: bytearray, at: int) -> None:
    data[at : at + 512] = bytes(len(data[at : at + 512]))


def _cut(data: bytearray, at: int) -> None:
    del data[at:]


def _remove_a_byte(data: bytearray, at: int) -> None:
    del data[at]


def _put_a_byte_in(data: bytearray, at: int) -> None:
    data.insert(at, 0x5A)


@pytest.mark.parametrize("damage", [_flip, _zero_a_page, _cut, _remove_a_byte, _put_a_byte_in])
async def test_all_damage_is_reported_and_undamaged_webhooks_are_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[bytearray, int], None]
) -> None:
    """Each missing webhook was reported, and all undamaged webhooks are published."""
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
    monkeypatch.setattr(os, "fdatasync", lambda _descriptor: None)
    whole = await filled(tmp_path / "whole", 5, 60)
    original = whole.read_bytes()
    everything = [f"id-{number}" for number in range(5)]
    # Every field of the header and of the first record, then samples of the rest.
    for at in (*range(0, 48, 3), *range(48, len(original), 37), len(original) - 1):
        directory = tmp_path / f"{at}"
        directory.mkdir()
        data = bytearray(original)
        damage(data, at)
        (directory / whole.name).write_bytes(data)
        before = damaged_places()
        spool = Spool(directory, BIG)
        await spool.append(webhook(99))
        published = await drained(spool)
        assert published[-1] == "id-99"
        assert published[:-1] == [id for id in everything if id in published], at
        missing = len(everything) - len(published[:-1])
        if missing:
            assert damaged_places() > before, at
            assert names_in(directory / SET_ASIDE_DIRECTORY) == [whole.name], at
            assert set_aside(spool) == 1
        if damage is _flip:
            assert missing <= 1, at
        await spool.close()


@pytest.mark.parametrize("cut", [0, 1])
async def test_damage_of_the_header_is_reported_and_costs_no_webhook(
    tmp_path: Path, cut: int
) -> None:
    """Also if the last record is damaged, which without a header is never taken for unfinished."""
    file = await filled(tmp_path, 3)
    original = file.read_bytes()
    for at in range(HEADER_SIZE):
        data = bytearray(original[: len(original) - cut])
        _flip(data, at)
        file.write_bytes(data)
        before = damaged_places()
        spool = Spool(tmp_path, BIG)
        assert damaged_places() == before + 1 + cut, at
        assert await drained(spool) == ["id-0", "id-1", "id-2"][: 3 - cut], at
        await spool.close()


async def test_damaged_files_with_the_same_name_are_all_kept(tmp_path: Path) -> None:
    file = tmp_path / "000000000001-0000abcd.spool"
    for content in ("first", "second", "third"):
        file.write_text(content)
        await Spool(tmp_path, BIG).close()
    aside = tmp_path / SET_ASIDE_DIRECTORY
    assert {path.name: path.read_text() for path in aside.iterdir()} == {
        file.name: "first",
        f"{file.name}.1": "second",
        f"{file.name}.2": "third",
    }


async def test_a_damaged_file_is_kept_and_can_be_salvaged(tmp_path: Path) -> None:
    file = await filled(tmp_path, 3, 40)
    data = bytearray(file.read_bytes())
    data[data.index(b"id-1")] = ord("!")
    file.write_bytes(data)
    spool = Spool(tmp_path, BIG)
    assert await drained(spool) == ["id-0", "id-2"]
    assert files(tmp_path) == []
    await spool.close()

    first, lost, last = salvage(tmp_path / SET_ASIDE_DIRECTORY / file.name)
    assert isinstance(first, Salvaged)
    assert (first.id, first.published) == ("id-0", True)
    assert isinstance(last, Salvaged)
    assert isinstance(lost, Fragment)
    assert "!d-1" in lost.text


async def test_a_damaged_file_that_was_removed_is_no_longer_reported(tmp_path: Path) -> None:
    file = await filled(tmp_path, 1)
    file.write_bytes(b"")
    spool = Spool(tmp_path, BIG)
    assert (set_aside(spool), FILES_SET_ASIDE._value.get()) == (1, 1)
    (tmp_path / SET_ASIDE_DIRECTORY / file.name).unlink()
    await spool.adopt()
    assert (set_aside(spool), FILES_SET_ASIDE._value.get()) == (0, 0)
    await spool.close()


async def test_damage_at_run_time_is_counted_and_the_file_set_aside(tmp_path: Path) -> None:
    spool = Spool(tmp_path, BIG)
    for number in range(3):
        await spool.append(webhook(number))
    file = only_file(tmp_path)
    data = bytearray(file.read_bytes())
    data[data.index(b"id-1")] = ord("!")
    file.write_bytes(data)
    before = damaged_places()
    assert await drained(spool) == ["id-0", "id-2"]
    assert damaged_places() == before + 1
    assert set_aside(spool) == 1
    await spool.close()


async def test_a_damaged_place_is_counted_once(tmp_path: Path) -> None:
    spool, before = Spool(tmp_path, BIG), damaged_places()
    for number in range(3):
        await spool.append(webhook(number))
    size = (await spool.head(1))[0].size
    second = (await spool.head(2))[1]
    change(only_file(tmp_path), second.offset + second.size - 1)
    for _ in range(3):
        assert await ids(spool) == ["id-0", "id-2"]
        assert (spool.count, spool.waiting_bytes) == (2, 2 * size)
    assert damaged_places() == before + 1
    await spool.close()
    reopened = Spool(tmp_path, BIG)
    assert damaged_places() == before + 2, "once by each process"
    await reopened.close()


async def test_a_file_that_can_no_longer_be_read_is_set_aside_with_its_webhooks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, before = Spool(tmp_path, BIG), damaged_places()
    for number in range(3):
        await spool.append(webhook(number))
    file = only_file(tmp_path)
    with monkeypatch.context() as broken:
        broken.setattr(os, "pread", unreadable)
        assert await ids(spool) == []
    assert (spool.count, spool.waiting_bytes, spool.files_aside) == (0, 0, 1)
    assert damaged_places() == before + 3
    kept = [*salvage(tmp_path / SET_ASIDE_DIRECTORY / file.name)]
    assert [piece.id for piece in kept if isinstance(piece, Salvaged)] == ["id-0", "id-1", "id-2"]
    await spool.append(webhook(3))
    assert await drained(spool) == ["id-3"]
    await spool.close()


async def test_removing_webhooks_of_a_truncated_file_does_not_fail(tmp_path: Path) -> None:
    spool = Spool(tmp_path, BIG)
    for number in range(2):
        await spool.append(webhook(number))
    items = await spool.head(2)
    os.truncate(only_file(tmp_path), items[1].offset)
    await spool.remove(items)
    assert (spool.count, await ids(spool)) == (0, [])
    await spool.close()


async def test_a_file_that_is_larger_than_any_valid_one_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, before = await filled(tmp_path, 2), damaged_places()
    monkeypatch.setattr(spool_file, "MAX_READ_BYTES", file.stat().st_size)
    file.write_bytes(file.read_bytes() + b"x")
    spool = Spool(tmp_path, BIG)
    assert damaged_places() == before + 1
    assert await drained(spool) == ["id-0", "id-1"]
    assert names_in(tmp_path / SET_ASIDE_DIRECTORY) == [file.name]
    await spool.close()


def change(file: Path, *places: int) -> None:
    """Damage a file that a process has open."""
    data = bytearray(file.read_bytes())
    for at in places:
        _flip(data, at)
    with file.open("r+b") as opened:
        opened.write(data)


async def test_a_published_webhook_that_damage_makes_pending_is_published_again(
    tmp_path: Path,
) -> None:
    spool = Spool(tmp_path, BIG)
    for number in range(2):
        await spool.append(webhook(number))
    first, _ = await spool.head(2)
    await spool.remove([first])
    change(only_file(tmp_path), first.offset + STATE_OFFSET)
    assert await drained(spool) == ["id-0", "id-1"]
    assert (spool.count, spool.waiting_bytes) == (0, 0)
    await spool.close()


async def test_damage_that_adds_a_webhook_does_not_hide_damage_that_removes_one(
    tmp_path: Path,
) -> None:
    spool, before = Spool(tmp_path, BIG), damaged_places()
    for number in range(3):
        await spool.append(webhook(number))
    first, second, _ = await spool.head(3)
    await spool.remove([first])
    change(only_file(tmp_path), first.offset + STATE_OFFSET, second.offset + second.size - 1)
    assert await drained(spool) == ["id-0", "id-2"]
    assert damaged_places() == before + 1
    assert set_aside(spool) == 1
    await spool.close()


async def test_a_failed_write_that_cannot_be_truncated_hides_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, before = Spool(tmp_path, BIG), damaged_places()
    for number in range(2):
        await spool.append(webhook(number))
    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", full)
        broken.setattr(os, "ftruncate", full)
        with pytest.raises(SpoolFull):
            await spool.append(webhook(2))
    _, last = await spool.head(2)
    change(only_file(tmp_path), last.offset + last.size - 1)
    assert await drained(spool) == ["id-0"]
    assert damaged_places() == before + 1
    assert set_aside(spool) == 1
    await spool.close()


async def test_a_damaged_file_does_not_count_towards_the_limit(tmp_path: Path) -> None:
    spool = Spool(tmp_path, BIG)
    await spool.append(webhook(0, 1000))
    await spool.append(webhook(1))
    large = (await spool.head(1))[0]
    change(only_file(tmp_path), large.offset + large.size - 1)
    (small,) = await spool.head(2)
    await spool.set_aside(small, "refused")
    assert (spool.count, spool.waiting_bytes, spool.files_aside) == (0, 0, 1)
    await spool.close()


async def test_a_write_interrupted_by_a_crash_is_not_damage(tmp_path: Path) -> None:
    file = await filled(tmp_path, 2)
    data = file.read_bytes()
    file.write_bytes(data + data[24:50])
    with capture_logs() as lines:
        spool = Spool(tmp_path, BIG)
    assert [line["file"] for line in lines if line["log_level"] == "warning"] == [str(file)]
    assert await drained(spool) == ["id-0", "id-1"]
    assert set_aside(spool) == 0
    await spool.close()


async def test_no_webhook_can_contain_forged_webhooks(tmp_path: Path) -> None:
    """A body that is a copy of a whole file is only a body, also when its record is damaged."""
    forged = (await filled(tmp_path / "attacker", 3)).read_bytes()
    spool = Spool(tmp_path / "victim", BIG)
    await spool.append(QueuedWebhook("real", "hogsend.webhooks.posthog", {}, forged))
    await spool.close()
    file = only_file(tmp_path / "victim")
    data = bytearray(file.read_bytes())
    data[data.index(b"real")] = ord("!")
    file.write_bytes(data)
    reopened = Spool(tmp_path / "victim", BIG)
    assert await ids(reopened) == []
    await reopened.close()


async def test_an_undecodable_webhook_is_set_aside_and_does_not_stop_others(tmp_path: Path) -> None:
    spool = Spool(tmp_path, BIG)
    await spool.append(webhook(1))
    spool._thread.submit(spool._files.append, [b"\xc1 not a webhook"]).result()
    await spool.append(webhook(2))
    assert spool.count == 3
    assert await drained(spool) == ["id-1", "id-2"]
    assert (spool.count, set_aside(spool)) == (0, 1)
    await spool.close()
    file = only_file(tmp_path)
    assert [type(piece) for piece in salvage(file)] == [Salvaged, Fragment, Salvaged]

"""The spool keeps appended webhooks through any crash, in order, and within its limit."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import shutil
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import msgspec
import pytest
from structlog.testing import capture_logs

from hogsend.contract.errors import CannotStart, SpoolFull
from hogsend.service.metrics import FAILURES
from services.gateway.webhooks.queued_webhook import QueuedWebhook
from services.gateway.webhooks.spool import adoption
from services.gateway.webhooks.spool import directory as spool_directory
from services.gateway.webhooks.spool import file as spool_file
from services.gateway.webhooks.spool.format import STATE_OFFSET
from services.gateway.webhooks.spool.names import sequence_of
from services.gateway.webhooks.spool.partial_files import remove_partial_files
from services.gateway.webhooks.spool.salvage import Fragment, Salvaged, salvage
from services.gateway.webhooks.spool.set_aside import DAMAGED
from services.gateway.webhooks.spool.set_aside import NAME as SET_ASIDE_DIRECTORY
from services.gateway.webhooks.spool.spool import Spool

BIG = 1 << 30
MIB = 1 << 20


def webhook(number: int, size: int = 10) -> QueuedWebhook:
    return QueuedWebhook(
        f"id-{number}", "hogsend.webhooks.posthog", {"n": str(number)}, b"x" * size
    )


async def ids(spool: Spool, limit: int = 10_000) -> list[str]:
    return [item.webhook.id for item in await spool.head(limit, BIG)]


async def filled(directory: Path, count: int, size: int = 10) -> Path:
    """Spool `count` webhooks in a directory, and return the path of their file."""
    spool = Spool(directory, BIG)
    await asyncio.gather(*(spool.append(webhook(number, size)) for number in range(count)))
    await spool.close()
    return only_file(directory)


def files(directory: Path) -> list[Path]:
    return list(directory.glob("*.spool"))


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def only_file(directory: Path) -> Path:
    (file,) = files(directory)
    return file


def full(*_arguments: object, **_named: object) -> None:
    """Raise the error that every write raises on a full disk."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def drained(spool: Spool) -> list[str]:
    """Remove all webhooks as if they were published, and return their ids."""
    published = []
    while spool.count:
        items = await spool.head(256)
        published += [item.webhook.id for item in items]
        await spool.remove(items)
    return published


def set_aside(spool: Spool) -> int:
    """Return the number of refused webhooks and of damaged files."""
    return spool.refused_count + spool.files_aside


def damaged_places() -> float:
    return DAMAGED._value.get()


async def test_webhooks_are_returned_in_the_order_of_their_append(tmp_path: Path) -> None:
    spool = Spool(tmp_path, BIG)
    await asyncio.gather(*(spool.append(webhook(number)) for number in range(50)))
    assert [item.webhook for item in await spool.head(100)] == [webhook(n) for n in range(50)]
    await spool.close()


async def test_appended_webhooks_survive_a_restart(tmp_path: Path) -> None:
    spool = Spool(tmp_path, BIG)
    await spool.append(webhook(1))
    await spool.close()
    reopened = Spool(tmp_path, BIG)
    assert reopened.count == 1
    assert reopened.waiting_bytes > 0
    assert [item.webhook for item in await reopened.head(10)] == [webhook(1)]
    await reopened.close()


async def test_removed_webhooks_stay_removed_after_a_restart(tmp_path: Path) -> None:
    spool = Spool(tmp_path, BIG)
    for number in range(4):
        await spool.append(webhook(number))
    first, _, third, _ = await spool.head(10)
    await spool.remove([first, third])
    await spool.close()
    reopened = Spool(tmp_path, BIG)
    assert await ids(reopened) == ["id-1", "id-3"]
    assert await drained(reopened) == ["id-1", "id-3"]
    await reopened.close()
    assert files(tmp_path) == []


async def test_removed_webhooks_are_not_reported_as_damage_after_a_restart(tmp_path: Path) -> None:
    spool = Spool(tmp_path, BIG)
    for number in range(3):
        await spool.append(webhook(number))
    await spool.remove((await spool.head(10))[:2])
    await spool.close()
    before = damaged_places()
    reopened = Spool(tmp_path, BIG)
    assert reopened.count == 1
    assert await drained(reopened) == ["id-2"]
    assert (set_aside(reopened), damaged_places()) == (0, before)
    await reopened.close()


async def test_many_files_are_returned_in_order_by_each_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_file, "MAX_FILE_BYTES", 1)
    expected: list[str] = []
    for process in range(4):
        spool = Spool(tmp_path, BIG)
        for number in range(process * 4, process * 4 + 4):
            expected.append(f"id-{number}")
            await spool.append(webhook(number))
        assert await ids(spool) == expected
        await spool.close()
    assert len(files(tmp_path)) == len(expected)


def test_a_file_is_complete_and_synced_before_a_webhook_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No crash, even of the machine, leaves a file that counts as damaged."""
    synced: list[tuple[bool, int]] = []

    def record_sync(descriptor: int) -> None:
        synced.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), len(files(tmp_path))))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", record_sync)
        created = spool_file.SpoolFile.create(tmp_path, 1)
    assert synced == [(False, 0), (True, 1)], "the file without its name, then the name"
    created.close()
    adopted = spool_file.SpoolFile.adopt(created.path)
    assert adopted is not None
    assert (adopted.damaged, adopted.count) == (0, 0)
    adopted.close()


async def test_partial_writes_of_the_disk_are_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwrite = os.pwrite

    def write_partially(descriptor: int, data: bytes, offset: int) -> int:
        return pwrite(descriptor, data[:7], offset)

    monkeypatch.setattr(os, "pwrite", write_partially)
    await filled(tmp_path, 2)
    spool = Spool(tmp_path, BIG)
    assert [item.webhook for item in await spool.head(10)] == [webhook(0), webhook(1)]
    assert set_aside(spool) == 0
    await spool.close()


@pytest.mark.parametrize("call", ["fsync", "rename"])
async def test_a_file_that_cannot_be_created_leaves_no_remains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    spool = Spool(tmp_path, BIG)
    with monkeypatch.context() as broken:
        broken.setattr(os if call == "fsync" else Path, call, full)
        with pytest.raises(SpoolFull):
            await spool.append(webhook(1))
    assert names_in(tmp_path) == []
    await spool.append(webhook(2))
    assert await ids(spool) == ["id-2"]
    await spool.close()


async def test_nothing_is_appended_to_a_file_after_a_failed_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel drops pages that it could not write, and the next sync succeeds without them."""
    spool = Spool(tmp_path, BIG)
    await spool.append(webhook(1))
    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", full)
        with pytest.raises(SpoolFull):
            await spool.append(webhook(2))
    await spool.append(webhook(3))
    assert len(files(tmp_path)) == 2
    assert await ids(spool) == ["id-1", "id-3"]
    await spool.close()


async def test_removing_webhooks_frees_space(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 3_000)
    await spool.append(webhook(1, 1_000))
    await spool.append(webhook(2, 1_000))
    with pytest.raises(SpoolFull):
        await spool.append(webhook(3, 1_000))
    assert spool.count == 2
    await spool.remove((await spool.head(10))[:1])
    await spool.append(webhook(3, 1_000))
    assert await ids(spool) == ["id-2", "id-3"]
    await spool.remove(await spool.head(10))
    assert (spool.count, spool.waiting_bytes) == (0, 0)
    await spool.close()


async def test_a_head_is_bounded_in_bytes_and_never_empty(tmp_path: Path) -> None:
    spool = Spool(tmp_path, BIG)
    for number in range(12):
        await spool.append(webhook(number, MIB))
    assert await ids(spool, 3) == ["id-0", "id-1", "id-2"]
    assert len(await spool.head(256, 3 * MIB)) == 2
    assert len(await spool.head(256, 10)) == 1
    assert max(path.stat().st_size for path in files(tmp_path)) <= 8 * MIB
    assert await drained(spool) == [f"id-{number}" for number in range(12)]
    await spool.close()


async def test_a_webhook_that_is_set_aside_is_excluded_until_the_next_start(tmp_path: Path) -> None:
    spool = Spool(tmp_path, BIG)
    await spool.append(webhook(1))
    await spool.append(webhook(2))
    await spool.set_aside((await spool.head(1))[0], "too large")
    assert await ids(spool) == ["id-2"]
    assert (spool.count, set_aside(spool)) == (1, 1)
    assert await drained(spool) == ["id-2"]
    await spool.close()
    reopened = Spool(tmp_path, BIG)
    assert await ids(reopened) == ["id-1"]
    await reopened.close()


async def test_two_processes_may_share_a_directory(tmp_path: Path) -> None:
    first, second = Spool(tmp_path, BIG), Spool(tmp_path, BIG)
    await first.append(webhook(1))
    await second.append(webhook(2))
    await second.adopt()
    assert await ids(first) == ["id-1"]
    assert await ids(second) == ["id-2"]
    await first.close()
    await second.adopt()
    assert sorted(await ids(second)) == ["id-1", "id-2"]
    await second.close()


async def test_a_directory_that_cannot_be_created_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotStart, match="SPOOL_DIR"):
        Spool(tmp_path / "file" / "spool", BIG)


@pytest.mark.parametrize("call", ["pwrite", "fdatasync", "open"])
async def test_webhooks_are_refused_while_the_disk_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    spool = Spool(tmp_path, BIG)
    await spool.append(webhook(0))
    failures = FAILURES.labels("spool", "write")
    before = failures._value.get()

    with monkeypatch.context() as broken, capture_logs() as lines:
        broken.setattr(os, call, full)
        for number in range(1, 3):
            if call == "open":
                spool._files._current = None
            with pytest.raises(SpoolFull, match="cannot be written"):
                await spool.append(webhook(number))
            assert spool.count == 1
    assert failures._value.get() == before + 2
    # Logged once, not for every refused webhook.
    assert [line["log_level"] for line in lines] == ["error"]
    assert "No space left" in lines[0]["reason"]
    await spool.append(webhook(2))
    assert await ids(spool) == ["id-0", "id-2"]
    await spool.close()
    reopened = Spool(tmp_path, BIG)
    assert await ids(reopened) == ["id-0", "id-2"]
    await reopened.close()


async def test_a_full_disk_does_not_stop_the_drain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path, BIG)
    for number in range(3):
        await spool.append(webhook(number))

    with monkeypatch.context() as broken:
        broken.setattr(os, "pwrite", full)
        broken.setattr(Path, "unlink", full)
        assert await drained(spool) == ["id-0", "id-1", "id-2"]
    assert spool.count == 0
    await spool.append(webhook(3))
    assert await ids(spool) == ["id-3"]
    await spool.close()


async def test_an_unexpected_error_is_raised_to_the_caller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path, BIG)

    def broken(_rows: list[bytes]) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(spool._files, "append", broken)
    with pytest.raises(ZeroDivisionError):
        await spool.append(webhook(1))
    assert spool.count == 0
    await spool.close()


async def test_spool_files_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    file = await filled(tmp_path / "spool", 1)
    assert (tmp_path / "spool").stat().st_mode & 0o077 == 0
    assert file.stat().st_mode & 0o077 == 0


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
    assert set_aside(spool) == 1
    (tmp_path / SET_ASIDE_DIRECTORY / file.name).unlink()
    await spool.adopt()
    assert set_aside(spool) == 0
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
    spool = Spool(tmp_path, BIG)
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


async def test_a_partial_file_of_a_crash_is_removed(tmp_path: Path) -> None:
    unfinished = tmp_path / "000000000001-0000abcd.new"
    unfinished.write_bytes(b"HOG")
    unrelated = tmp_path / "webhook-secret.new"
    unrelated.touch()
    await Spool(tmp_path, BIG).close()
    assert (unfinished.exists(), unrelated.exists()) == (False, True)


async def test_a_directory_with_a_spool_files_name_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "000000000001-00000000.spool").mkdir()
    spool = Spool(tmp_path, BIG)
    await spool.append(webhook(1))
    assert await ids(spool) == ["id-1"]
    assert set_aside(spool) == 1
    await spool.close()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOLCK])
async def test_a_file_that_temporarily_cannot_be_opened_is_published_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    spool = Spool(tmp_path, BIG)
    ended = await filled(tmp_path / "ended", 2)
    ended.rename(tmp_path / ended.name)
    os_open = os.open

    def fail_for_spool_files(path: os.PathLike[str], *arguments: int) -> int:
        if Path(path).suffix == ".spool":
            raise OSError(number, os.strerror(number))
        return os_open(path, *arguments)

    with monkeypatch.context() as broken:
        broken.setattr(os, "open", fail_for_spool_files)
        await spool.adopt()
        assert (spool.count, set_aside(spool)) == (0, 0)
    await spool.adopt()
    assert await drained(spool) == ["id-0", "id-1"]
    await spool.close()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
async def test_a_file_of_another_user_is_left_in_place_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    spool = Spool(tmp_path, BIG)
    foreign = await filled(tmp_path / "foreign", 2)
    foreign = foreign.rename(tmp_path / foreign.name)
    os_open = os.open

    def refused(path: os.PathLike[str], *arguments: int) -> int:
        if Path(path) == foreign:
            raise OSError(number, os.strerror(number))
        return os_open(path, *arguments)

    with monkeypatch.context() as denied, capture_logs() as lines:
        denied.setattr(os, "open", refused)
        await spool.adopt()
        await spool.adopt()
    assert (foreign.exists(), spool.count, spool.files_aside) == (True, 0, 1)
    assert [line["file"] for line in lines if line["log_level"] == "error"] == [str(foreign)]
    # After the file was given to the gateway's user.
    await spool.adopt()
    assert (await drained(spool), spool.files_aside) == (["id-0", "id-1"], 0)
    await spool.close()


async def test_a_file_that_another_process_removes_during_creation_is_created_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path, BIG)
    lock = fcntl.flock
    unlocked: list[Path] = []

    def after_the_other_process(descriptor: int, operation: int) -> None:
        if len(unlocked) < 2:
            unlocked.extend(tmp_path.glob("*.new"))
            monkeypatch.setattr(fcntl, "flock", lock)
            remove_partial_files(tmp_path)
            monkeypatch.setattr(fcntl, "flock", after_the_other_process)
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", after_the_other_process)
    await spool.append(webhook(1))
    assert len(unlocked) == 2
    assert await drained(spool) == ["id-1"]
    await spool.close()


async def test_webhooks_are_accepted_while_the_path_cannot_be_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path, BIG)
    await spool.append(webhook(1))
    with monkeypatch.context() as denied:
        denied.setattr(Path, "stat", full)
        await spool.append(webhook(2))
    only_file(tmp_path)
    assert await drained(spool) == ["id-1", "id-2"]
    await spool.close()


@pytest.mark.parametrize("removed", ["its file", "its directory"])
async def test_removing_files_of_a_running_gateway_does_not_lose_later_webhooks(
    tmp_path: Path, removed: str
) -> None:
    directory = tmp_path / "spool"
    spool = Spool(directory, BIG)
    await spool.append(webhook(1))
    if removed == "its file":
        only_file(directory).unlink()
    else:
        directory.rename(tmp_path / "elsewhere")
    await spool.append(webhook(2))
    await spool.append(webhook(3))
    # As after a crash: the next process finds only the files in the directory.
    remaining = tmp_path / "remaining"
    remaining.mkdir()
    shutil.copy(only_file(directory), remaining)
    after_a_crash = Spool(remaining, BIG)
    assert await drained(after_a_crash) == ["id-2", "id-3"]
    await after_a_crash.close()
    assert await drained(spool) == ["id-1", "id-2", "id-3"]
    await spool.close()


async def test_counts_are_correct_while_files_are_sorted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(tmp_path, 2)
    spool = Spool(tmp_path, BIG)
    counts: list[tuple[int, int]] = []

    def record_counts(path: Path) -> int:
        counts.append((spool._files.count, spool._files.waiting_bytes))
        return sequence_of(path)

    monkeypatch.setattr(spool_directory, "sequence_of", record_counts)
    await spool.adopt()
    assert counts == [(spool.count, spool.waiting_bytes)]
    assert spool.count == 2
    await spool.close()


async def test_a_file_that_its_owner_removed_after_the_listing_is_not_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, other = Spool(tmp_path, BIG), Spool(tmp_path, BIG)
    await owner.append(webhook(1))
    file, before = only_file(tmp_path), damaged_places()
    assert await drained(owner) == ["id-1"]
    # The other process listed the directory before the file was removed.
    monkeypatch.setattr(Path, "glob", lambda _directory, _pattern: iter([file]))
    await other.adopt()
    assert damaged_places() == before
    assert other._files._adoption._ignored == set()
    await owner.close()
    await other.close()


def sqlite_spool(directory: Path, count: int) -> Path:
    """Write a SQLite spool as version 0.1 left it."""
    path = directory / "webhooks.sqlite3"
    with sqlite3.connect(path) as connection:
        connection.execute(
            "CREATE TABLE spool (position INTEGER PRIMARY KEY AUTOINCREMENT, size INTEGER NOT NULL,"
            " delivery BLOB NOT NULL, refused TEXT) STRICT"
        )
        connection.executemany(
            "INSERT INTO spool (size, delivery) VALUES (1, ?)",
            [(msgspec.msgpack.encode(webhook(number, 500)),) for number in range(count)],
        )
    connection.close()
    return path


async def test_the_spool_of_an_earlier_version_is_imported(tmp_path: Path) -> None:
    path = sqlite_spool(tmp_path, 20)
    spool = Spool(tmp_path, BIG)
    assert await drained(spool) == [f"id-{number}" for number in range(20)]
    await spool.close()
    assert not path.exists()
    assert files(tmp_path) == []


async def test_a_large_spool_of_an_earlier_version_is_imported_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adoption, "IMPORT_BYTES", 1200)
    path = sqlite_spool(tmp_path, 20)
    spool = Spool(tmp_path, BIG)
    assert await drained(spool) == [f"id-{number}" for number in range(20)]
    await spool.close()
    assert not path.exists()


async def test_invalid_rows_of_an_earlier_version_are_set_aside(tmp_path: Path) -> None:
    path = sqlite_spool(tmp_path, 2)
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE spool")
        connection.execute("CREATE TABLE spool (position INTEGER PRIMARY KEY, delivery)")
        rows = [(1, None), (2, "text"), (3, 7), (4, msgspec.msgpack.encode(webhook(4)))]
        connection.executemany("INSERT INTO spool VALUES (?, ?)", rows)
    connection.close()
    spool = Spool(tmp_path, BIG)
    assert await drained(spool) == ["id-4"]
    assert set_aside(spool) == 1
    await spool.close()


@pytest.mark.parametrize("at", [0, 3 * 4096])
async def test_a_damaged_spool_of_an_earlier_version_is_set_aside(tmp_path: Path, at: int) -> None:
    path = sqlite_spool(tmp_path, 40)
    data = bytearray(path.read_bytes())
    data[at : at + 4096] = b"\xff" * 4096
    path.write_bytes(data)
    before = damaged_places()
    spool = Spool(tmp_path, BIG)
    assert damaged_places() > before
    await spool.append(webhook(99))
    assert (await drained(spool))[-1] == "id-99"
    assert names_in(tmp_path / SET_ASIDE_DIRECTORY) == ["webhooks.sqlite3"]
    await spool.close()


@pytest.mark.parametrize(("number", "aside"), [(errno.EACCES, 1), (errno.EMFILE, 0)])
async def test_a_spool_of_an_earlier_version_that_cannot_be_opened_is_imported_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, aside: int
) -> None:
    path, before = sqlite_spool(tmp_path, 2), damaged_places()
    os_open = os.open

    def refused(opened_path: os.PathLike[str], *arguments: int) -> int:
        if Path(opened_path) == path:
            raise OSError(number, os.strerror(number))
        return os_open(opened_path, *arguments)

    with monkeypatch.context() as denied, capture_logs() as lines:
        denied.setattr(os, "open", refused)
        # The error that SQLite reports for such a file.
        denied.setattr(sqlite3, "connect", Mock(side_effect=sqlite3.OperationalError("unable")))
        spool = Spool(tmp_path, BIG)
        await spool.adopt()
    assert (path.exists(), spool.count, set_aside(spool)) == (True, 0, aside)
    assert [line["file"] for line in lines if line["log_level"] == "error"] == [str(path)] * aside
    assert damaged_places() == before
    # After the file was given to the gateway's user, or descriptors were freed.
    await spool.adopt()
    assert (await drained(spool), set_aside(spool)) == (["id-0", "id-1"], 0)
    await spool.close()


async def test_the_spool_of_an_earlier_version_is_not_imported_while_that_version_runs(
    tmp_path: Path,
) -> None:
    path = sqlite_spool(tmp_path, 1)
    running = sqlite3.connect(path)
    running.execute("PRAGMA locking_mode=EXCLUSIVE")
    running.execute("BEGIN EXCLUSIVE")
    spool = Spool(tmp_path, BIG)
    assert (spool.count, set_aside(spool)) == (0, 0)
    running.close()
    await spool.adopt()
    assert await ids(spool) == ["id-0"]
    await spool.close()

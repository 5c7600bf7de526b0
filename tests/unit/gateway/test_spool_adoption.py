"""Spool files of other processes: those without an owner are adopted, others are left in place."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from hogsend.contract.errors import SpoolFull
from services.gateway.webhooks.spool import directory as spool_directory
from services.gateway.webhooks.spool import file as spool_file
from services.gateway.webhooks.spool.names import sequence_of
from services.gateway.webhooks.spool.partial_files import remove_partial_files
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
    open_files,
    set_aside,
    unreadable,
    webhook,
)


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


async def test_a_partial_file_of_a_crash_is_removed(tmp_path: Path) -> None:
    unfinished = tmp_path / "000000000001-0000abcd.new"
    unfinished.write_bytes(b"HOG")
    unrelated = tmp_path / "webhook-secret.new"
    unrelated.touch()
    await Spool(tmp_path, BIG).close()
    assert (unfinished.exists(), unrelated.exists()) == (False, True)


def test_a_file_that_another_process_is_creating_is_not_removed(tmp_path: Path) -> None:
    creating = tmp_path / "000000000001-0000abcd.new"
    with creating.open("xb") as created:
        fcntl.flock(created, fcntl.LOCK_EX)
        remove_partial_files(tmp_path)
        assert creating.exists()
        assert len(open_files(tmp_path)) == 1
    remove_partial_files(tmp_path)
    assert not creating.exists()
    assert open_files(tmp_path) == []


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
        for _ in range(3):
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


def lock_refused(*_arguments: int) -> None:
    raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK))


async def test_a_file_that_another_process_locks_during_creation_is_created_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, lock = Spool(tmp_path, BIG), fcntl.flock
    locks = iter([lock_refused, lock_refused])

    def locked_at_the_third_attempt(descriptor: int, operation: int) -> None:
        next(locks, lock)(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", locked_at_the_third_attempt)
    await spool.append(webhook(1))
    assert next(locks, None) is None
    assert await drained(spool) == ["id-1"]
    await spool.close()


async def test_a_webhook_is_refused_when_no_file_can_be_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, before = Spool(tmp_path, BIG), open_files(tmp_path)
    monkeypatch.setattr(fcntl, "flock", lock_refused)
    with pytest.raises(SpoolFull):
        await spool.append(webhook(1))
    assert (names_in(tmp_path), open_files(tmp_path)) == ([], before)
    await spool.close()


async def test_searching_for_files_to_adopt_leaves_no_descriptor_open(tmp_path: Path) -> None:
    owner, other = Spool(tmp_path, BIG), Spool(tmp_path, BIG)
    await owner.append(webhook(1))
    before = open_files(tmp_path)
    await other.adopt()
    assert open_files(tmp_path) == before
    await owner.close()
    await other.close()


async def test_a_file_that_its_owner_removes_before_the_lock_is_not_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, before = Spool(tmp_path, BIG), damaged_places()
    ended = await filled(tmp_path / "ended", 1)
    file = ended.rename(tmp_path / ended.name)
    lock, descriptors = fcntl.flock, open_files(tmp_path)

    def lock_after_removal(descriptor: int, operation: int) -> None:
        file.unlink()
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", lock_after_removal)
    await spool.adopt()
    assert (spool.count, set_aside(spool), damaged_places()) == (0, 0, before)
    assert open_files(tmp_path) == descriptors
    await spool.close()


async def test_a_file_that_temporarily_cannot_be_locked_is_published_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path, BIG)
    ended = await filled(tmp_path / "ended", 2)
    ended.rename(tmp_path / ended.name)
    descriptors = open_files(tmp_path)

    def no_locks(*_arguments: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    with monkeypatch.context() as broken:
        broken.setattr(fcntl, "flock", no_locks)
        await spool.adopt()
        assert (spool.count, set_aside(spool)) == (0, 0)
        assert open_files(tmp_path) == descriptors
    await spool.adopt()
    assert await drained(spool) == ["id-0", "id-1"]
    await spool.close()


async def test_an_adopted_file_that_cannot_be_read_is_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, before = Spool(tmp_path, BIG), damaged_places()
    ended = await filled(tmp_path / "ended", 2)
    ended.rename(tmp_path / ended.name)
    descriptors = open_files(tmp_path)
    with monkeypatch.context() as broken:
        broken.setattr(os, "pread", unreadable)
        await spool.adopt()
    assert (spool.count, spool.files_aside, damaged_places()) == (0, 1, before + 1)
    assert names_in(tmp_path / SET_ASIDE_DIRECTORY) == [ended.name]
    assert open_files(tmp_path) == descriptors
    await spool.close()


async def test_a_damaged_file_that_cannot_be_set_aside_is_reported_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, before = tmp_path / "000000000001-0000abcd.spool", damaged_places()
    file.mkdir()
    monkeypatch.setattr(Path, "rename", full)
    spool = Spool(tmp_path, BIG)
    await spool.adopt()
    assert (file.exists(), damaged_places()) == (True, before + 1)
    await spool.close()


@pytest.mark.parametrize("call", ["glob", "iterdir", "stat"])
async def test_webhooks_are_published_while_the_directory_cannot_be_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    file = await filled(tmp_path, 1)
    file.write_bytes(b"")
    spool = Spool(tmp_path, BIG)
    await spool.append(webhook(1))
    with monkeypatch.context() as broken:
        broken.setattr(Path, call, unreadable)
        await spool.adopt()
        await spool.append(webhook(2))
        assert await drained(spool) == ["id-1", "id-2"]
        assert spool.files_aside == 1
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

"""The spool keeps appended webhooks through any crash, in order, and within its limit."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from hogsend.contract.errors import CannotStart, SpoolFull
from hogsend.service.metrics import FAILURES
from services.gateway.webhooks.spool import file as spool_file
from services.gateway.webhooks.spool.directory import SET_ASIDE
from services.gateway.webhooks.spool.spool import BYTES, LIMIT, SPOOLED, WAITING, Spool
from tests.unit.gateway.spooling import (
    BIG,
    MIB,
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
    webhook,
)

FILE = (
    "484f4753504f4f4c01000000d000000000000000077c30c7ab4853015f0d594948000000e872e043"
    "5e0c584884a26964a469642d31a77375626a656374b8686f6773656e642e776562686f6f6b732e70"
    "6f7374686f67a76865616465727381a16ea131a4626f6479c40a78787878787878787878ab485301"
    "000000004800000074df48e3780966de84a26964a469642d32a77375626a656374b8686f6773656e"
    "642e776562686f6f6b732e706f7374686f67a76865616465727381a16ea132a4626f6479c40a7878"
    "7878787878787878"
)
"""A file with a published and a pending webhook."""


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


async def test_a_file_of_an_earlier_gateway_of_this_version_is_read(tmp_path: Path) -> None:
    """The format on disk does not change: a file may be older than the gateway that adopts it."""
    file = tmp_path / "000000000007-0000abcd.spool"
    file.write_bytes(bytes.fromhex(FILE))
    before = damaged_places()
    spool = Spool(tmp_path, BIG)
    assert [item.webhook for item in await spool.head(10)] == [webhook(2)]
    assert (spool.count, damaged_places()) == (1, before)
    await spool.append(webhook(3))
    assert names_in(tmp_path)[1].startswith("000000000008-")
    await spool.close()


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


@pytest.mark.parametrize(
    ("owner", "call"), [(os, "fsync"), (Path, "rename"), (spool_file, "sync_directory")]
)
async def test_a_file_that_cannot_be_created_leaves_no_remains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: object, call: str
) -> None:
    spool, before = Spool(tmp_path, BIG), open_files(tmp_path)
    with monkeypatch.context() as broken:
        broken.setattr(owner, call, full)
        with pytest.raises(SpoolFull):
            await spool.append(webhook(1))
    assert names_in(tmp_path) == []
    assert open_files(tmp_path) == before
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
    assert (files(tmp_path), open_files(tmp_path)) == ([], [])
    await spool.close()


async def test_a_head_is_bounded_in_bytes_and_never_empty(tmp_path: Path) -> None:
    spool = Spool(tmp_path, BIG)
    for number in range(12):
        await spool.append(webhook(number, MIB))
    assert await ids(spool, 3) == ["id-0", "id-1", "id-2"]
    assert len(await spool.head(256, 3 * MIB)) == 2
    first = (await spool.head(1))[0]
    assert len(await spool.head(256, 3 * first.size)) == 3
    assert len(await spool.head(256, 10)) == 1
    assert max(path.stat().st_size for path in files(tmp_path)) <= 8 * MIB
    assert await drained(spool) == [f"id-{number}" for number in range(12)]
    await spool.close()


async def test_a_webhook_that_is_set_aside_is_excluded_until_the_next_start(tmp_path: Path) -> None:
    spool = Spool(tmp_path, BIG)
    await spool.append(webhook(1))
    await spool.append(webhook(2))
    before = SET_ASIDE._value.get()
    await spool.set_aside((await spool.head(1))[0], "too large")
    assert await ids(spool) == ["id-2"]
    assert (spool.count, set_aside(spool)) == (1, 1)
    assert SET_ASIDE._value.get() == before + 1
    assert await drained(spool) == ["id-2"]
    assert spool.waiting_bytes == 0
    await spool.close()
    reopened = Spool(tmp_path, BIG)
    assert await ids(reopened) == ["id-1"]
    await reopened.close()


async def test_a_directory_that_cannot_be_created_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotStart, match="SPOOL_DIR"):
        Spool(tmp_path / "file" / "spool", BIG)


async def test_a_webhook_that_cannot_be_synced_leaves_no_empty_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path, BIG)
    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", full)
        with pytest.raises(SpoolFull):
            await spool.append(webhook(1))
    assert names_in(tmp_path) == []
    await spool.close()


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
    await spool.adopt()
    assert spool.count == 0
    await spool.append(webhook(3))
    assert await ids(spool) == ["id-3"]
    await spool.close()


async def test_a_webhook_whose_removal_cannot_be_marked_on_disk_is_not_returned_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path, BIG)
    for number in range(3):
        await spool.append(webhook(number))
    failures = FAILURES.labels("spool", "mark")
    before = failures._value.get()
    with monkeypatch.context() as broken:
        broken.setattr(os, "pwrite", full)
        await spool.remove(await spool.head(2))
    assert failures._value.get() == before + 1
    assert await ids(spool) == ["id-2"]
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


async def test_pending_writes_are_finished_when_the_spool_closes(tmp_path: Path) -> None:
    spool = Spool(tmp_path, BIG)
    appending = [asyncio.create_task(spool.append(webhook(number))) for number in range(2)]
    await asyncio.sleep(0)
    await spool.close()
    await asyncio.gather(*appending)
    reopened = Spool(tmp_path, BIG)
    assert await drained(reopened) == ["id-0", "id-1"]
    await reopened.close()


async def test_the_gauges_follow_each_change_of_the_spool(tmp_path: Path) -> None:
    def gauges() -> list[float]:
        return [gauge._value.get() for gauge in (WAITING, BYTES, LIMIT)]

    appended, file = SPOOLED._value.get(), await filled(tmp_path / "ended", 3)
    assert SPOOLED._value.get() == appended + 3
    file.rename(tmp_path / file.name)
    later = await filled(tmp_path / "later", 1)
    spool = Spool(tmp_path, BIG)
    at_start = gauges()
    first, second, third = await spool.head(3)
    assert at_start == gauges() == [3, 3 * first.size, BIG]
    await spool.remove([first])
    assert gauges() == [2, 2 * first.size, BIG]
    await spool.set_aside(second, "too large")
    assert gauges() == [1, first.size, BIG]
    file = only_file(tmp_path)
    file.write_bytes(file.read_bytes()[: third.offset])
    assert await spool.head(3) == []
    assert gauges() == [0, 0, BIG]
    later.rename(tmp_path / later.name)
    await spool.adopt()
    assert gauges() == [1, first.size, BIG]
    assert not spool.is_full
    await spool.close()


async def test_spool_files_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    file = await filled(tmp_path / "new" / "spool", 1)
    assert file.parent.stat().st_mode & 0o077 == 0
    assert file.stat().st_mode & 0o077 == 0


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

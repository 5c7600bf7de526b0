"""The outbox keeps notices until they are sent, for one process at a time (ADR 23)."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
from pathlib import Path
from unittest.mock import Mock

import pytest
from structlog.testing import capture_logs

from services.gateway.notices.outbox import MAX_PENDING, NAME, Outbox
from tests.unit.gateway.notices import opened, waiting
from tests.virtual_time import now, on_virtual_time, settle


async def test_only_one_process_at_a_time_opens_an_outbox(tmp_path: Path) -> None:
    first, second = opened(tmp_path), Outbox(tmp_path)
    assert not second.open()
    first.close()
    assert second.open()


async def test_without_locks_an_outbox_is_kept_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_locks = OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
    monkeypatch.setattr(fcntl, "flock", Mock(side_effect=no_locks))
    outbox = Outbox(tmp_path)
    with capture_logs() as lines:
        assert outbox.open()
    assert [line["reason"] for line in lines] == [str(no_locks)]
    await outbox.add(kept := waiting())
    assert outbox.pending == [kept]


async def test_a_full_outbox_drops_its_oldest_notice(tmp_path: Path) -> None:
    outbox, notices = Outbox(tmp_path), [waiting() for _ in range(MAX_PENDING + 3)]
    for notice in notices:
        await outbox.add(notice)
    assert outbox.pending == notices[3:]
    # A dropped notice may still be in delivery, and is then removed.
    await outbox.remove(notices[0])
    assert outbox.pending == notices[3:]


async def test_an_outbox_that_another_process_locked_leaves_no_file_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = opened(tmp_path), Outbox(tmp_path)
    files, open_file = list[int](), os.open

    def record_file(path: Path, flags: int, mode: int) -> int:
        files.append(open_file(path, flags, mode))
        return files[-1]

    monkeypatch.setattr(os, "open", record_file)
    assert not second.open()
    [file] = files
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(file)
    first.close()


async def test_a_closed_outbox_can_be_opened_by_the_next_process(tmp_path: Path) -> None:
    first = opened(tmp_path)
    first.close()
    second = opened(tmp_path)
    await second.add(kept := waiting())
    await first.add(waiting())
    first.close()
    assert not Outbox(tmp_path).open()
    second.close()
    assert opened(tmp_path).pending == [kept]


async def test_an_outbox_creates_its_directory(tmp_path: Path) -> None:
    directory = tmp_path / "spool" / "a"
    outbox = opened(directory)
    await outbox.add(kept := waiting())
    outbox.close()
    assert opened(directory).pending == [kept]


@on_virtual_time
async def test_a_change_of_the_outbox_wakes_one_wait_and_not_the_next() -> None:
    outbox = Outbox(Path("/nowhere"))
    waiting_for = asyncio.create_task(outbox.wait_for_change(None))
    await settle()
    assert not waiting_for.done()
    await outbox.add(waiting())
    await waiting_for
    await outbox.wait_for_change(5)
    assert now() == 5


async def test_notices_are_sent_with_a_damaged_or_unwritable_outbox(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"{")
    assert opened(tmp_path).pending == []
    unreadable = tmp_path / "unreadable"
    (unreadable / NAME).mkdir(parents=True)
    outbox = opened(unreadable)
    await outbox.add(waiting())
    assert len(outbox.pending) == 1
    file = tmp_path / "file"
    file.touch()
    outbox = opened(file / "below")
    await outbox.add(waiting())
    assert len(outbox.pending) == 1

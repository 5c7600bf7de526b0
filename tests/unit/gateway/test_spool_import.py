"""The spool of version 0.1, a SQLite database, is imported at the start."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import Mock

import msgspec
import pytest
from structlog.testing import capture_logs

from services.gateway.webhooks.spool import adoption
from services.gateway.webhooks.spool.file import SpoolFile
from services.gateway.webhooks.spool.salvage import Salvaged, salvage
from services.gateway.webhooks.spool.set_aside import NAME as SET_ASIDE_DIRECTORY
from services.gateway.webhooks.spool.spool import Spool
from tests.unit.gateway.spooling import (
    BIG,
    damaged_places,
    drained,
    files,
    full,
    ids,
    names_in,
    set_aside,
    webhook,
)


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
    parts: list[int] = []
    append = SpoolFile.append

    def record_part(file: SpoolFile, contents: Sequence[bytes]) -> None:
        parts.append(len(contents))
        append(file, contents)

    monkeypatch.setattr(adoption, "IMPORT_BYTES", 1200)
    monkeypatch.setattr(SpoolFile, "append", record_part)
    path = sqlite_spool(tmp_path, 20)
    spool = Spool(tmp_path, BIG)
    assert parts == [3, 3, 3, 3, 3, 3, 2], "webhooks of 500 bytes and more"
    assert await drained(spool) == [f"id-{number}" for number in range(20)]
    await spool.close()
    assert not path.exists()


async def test_a_spool_of_an_earlier_version_that_does_not_fit_is_imported_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sqlite_spool(tmp_path, 3)
    with monkeypatch.context() as broken:
        broken.setattr(os, "pwrite", full)
        spool = Spool(tmp_path, BIG)
    await spool.append(webhook(99))
    await spool.adopt()
    assert (path.exists(), await drained(spool)) == (True, ["id-99"])
    await spool.close()
    restarted = Spool(tmp_path, BIG)
    assert await drained(restarted) == ["id-0", "id-1", "id-2"]
    assert not path.exists()
    await restarted.close()


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


@pytest.mark.parametrize(
    ("page", "lost"),
    [(0, range(40)), (2, range(0)), (3, range(8)), (5, range(13, 22)), (8, range(34, 40))],
    ids=["header", "sequence", "first rows", "middle rows", "last rows"],
)
async def test_only_the_rows_on_a_damaged_page_of_an_earlier_versions_spool_are_lost(
    tmp_path: Path, page: int, lost: range
) -> None:
    path = sqlite_spool(tmp_path, 40)
    data = bytearray(path.read_bytes())
    data[page * 4096 : (page + 1) * 4096] = b"\xff" * 4096
    path.write_bytes(data)
    readable = [f"id-{number}" for number in range(40) if number not in lost]
    before = damaged_places()
    spool = Spool(tmp_path, BIG)
    assert damaged_places() == before + 1
    await spool.append(webhook(99))
    assert await drained(spool) == [*readable, "id-99"]
    aside = tmp_path / SET_ASIDE_DIRECTORY
    assert names_in(aside) == ["webhooks.sqlite3"]
    salvaged = [*salvage(aside / "webhooks.sqlite3")]
    assert [piece.id for piece in salvaged if isinstance(piece, Salvaged)] == readable
    await spool.close()


async def test_a_directory_with_the_name_of_an_earlier_versions_spool_is_set_aside(
    tmp_path: Path,
) -> None:
    (tmp_path / "webhooks.sqlite3").mkdir()
    before = damaged_places()
    spool = Spool(tmp_path, BIG)
    assert (damaged_places(), spool.files_aside) == (before + 1, 1)
    await spool.append(webhook(1))
    assert await drained(spool) == ["id-1"]
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

"""A backup is complete or absent, and a restore overwrites nothing."""

from __future__ import annotations

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pyrage
import pytest

from cli.backup import sealed, streams
from cli.backup.archive import Key, Kind, create_backup, restore_backup
from cli.backup.postgres_tools import DUMP, EXISTING, SCHEMAS
from cli.backup.streams import SAVING_ORDER, StreamError, StreamResult
from cli.errors import CommandError
from cli.stack.environment import SERVICE_SETTINGS
from hogsend.contract.streams import StreamName

IDENTITY = pyrage.x25519.Identity.generate()
# A passphrase takes a second each time, on purpose.
KEY = Key(recipient=str(IDENTITY.to_public()), identity=str(IDENTITY))


class Place:
    """A deployment that consists of files only."""

    kind: Kind = "local"

    def __init__(self, root: Path) -> None:
        self.root = root
        self.work = root / "place.opened"
        self.fail = ""
        self.addresses: list[str] = []
        self.notes: list[str] = []
        self.loaded: list[bytes] = []
        self.restored: dict[str, bytes] = {}

    @asynccontextmanager
    async def operator(self) -> AsyncIterator[Any]:
        yield None

    servers = operator

    async def gateways(self) -> Sequence[str]:
        return self.addresses

    def dump(self, file: Path) -> None:
        if self.fail == "dump":
            raise CommandError("pg_dump failed", "see above")
        file.write_bytes(b"rows")

    def files(self) -> Mapping[str, Path]:
        (self.root / "word").write_text("secret")
        return {"secrets/word": self.root / "word"}

    def require_empty(self) -> None:
        if self.fail == "empty":
            raise CommandError("there is one", "elsewhere")

    def restore_files(self, files: Path) -> None:
        self.mode = files.parent.stat().st_mode & 0o777
        self.beside_backup = [file.name for file in (self.root / "b").glob("*")]
        self.restored = {
            str(file.relative_to(files)): file.read_bytes()
            for file in files.rglob("*")
            if file.is_file()
        }

    def copies(self) -> int | None:
        return 1

    def load(self, dump: Path) -> None:
        if self.fail == "load":
            raise CommandError("pg_restore failed", "see above")
        self.loaded.append(dump.read_bytes())

    def analyze(self) -> None:
        if self.fail == "analyze":
            raise CommandError("vacuumdb failed", "see above")


@pytest.fixture
def deleted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the deleted streams. Saving and restoring only write files."""
    gone: list[str] = []

    async def save_all(_client: Any, directory: Path, _progress: Any) -> list[StreamResult]:
        (directory / "EVENTS").mkdir(parents=True)
        (directory / "EVENTS" / "backup.json").write_text("{}")
        return [StreamResult("EVENTS", 3, 2)]

    async def restore_all(
        _client: Any, directory: Path, *_: Any, copies: int
    ) -> list[StreamResult]:
        assert (directory / "EVENTS" / "backup.json").read_text() == "{}"
        assert copies == 1
        return [StreamResult("EVENTS", 3, 2)]

    async def delete(_client: Any, stream: str) -> None:
        await asyncio.sleep(0)
        gone.append(stream)

    for name, function in (("save_all", save_all), ("restore_all", restore_all)):
        monkeypatch.setattr(streams, name, function)
    monkeypatch.setattr(streams, "delete", delete)
    return gone


def quiet(_part: str, _size: int) -> None:
    pass


async def test_what_goes_in_comes_out(tmp_path: Path, deleted: list[str]) -> None:
    place, saved = Place(tmp_path), tmp_path / "b" / "one"
    made = await create_backup(place, saved, KEY, quiet)
    assert sorted(file.name for file in saved.iterdir()) == ["backup.age"]
    found = await restore_backup(place, saved, KEY, quiet)
    assert found == made
    assert made.spooled == 0
    assert place.loaded == [b"rows"]
    assert place.restored == {"secrets/word": b"secret"}
    assert [file.name for file in saved.parent.iterdir()] == ["one"]
    assert deleted == []


async def test_a_backup_is_opened_beside_its_target_for_its_owner_alone(
    tmp_path: Path, deleted: list[str]
) -> None:
    """The backup may be on a read-only disk."""
    place, saved = Place(tmp_path), tmp_path / "b" / "one"
    await create_backup(place, saved, KEY, quiet)
    place.work.mkdir()
    (place.work / "of-a-run-that-was-killed").touch()
    await restore_backup(place, saved, KEY, quiet)
    assert (place.mode, place.beside_backup) == (0o700, ["one"])
    assert not place.work.exists()
    assert deleted == []


async def test_a_backup_is_opened_only_where_there_is_room(
    tmp_path: Path, deleted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place, saved = Place(tmp_path), tmp_path / "one"
    await create_backup(place, saved, KEY, quiet)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Mock(free=100))
    with pytest.raises(CommandError, match="GiB of free space"):
        await restore_backup(place, saved, KEY, quiet)
    assert place.restored == {}
    assert not place.work.exists()
    assert deleted == []


@pytest.fixture
def own_ctrl_c() -> Iterator[None]:
    """Python's own handler of Ctrl-C, whatever an earlier test has installed."""
    earlier = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, earlier)


@pytest.mark.usefixtures("own_ctrl_c")
def test_ctrl_c_while_a_backup_is_opened_ends_it_at_once_and_restores_nothing(
    tmp_path: Path, deleted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place, saved = Place(tmp_path), tmp_path / "one"
    asyncio.run(create_backup(place, saved, KEY, quiet))
    monkeypatch.setattr(sealed, "unseal", interrupted)
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(restore_backup(place, saved, KEY, quiet))
    assert place.restored == {}
    assert not place.work.exists()
    assert deleted == []


@pytest.mark.usefixtures("own_ctrl_c")
def test_ctrl_c_while_a_dump_is_loaded_ends_it_at_once_and_deletes_its_streams(
    tmp_path: Path, deleted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place, saved = Place(tmp_path), tmp_path / "one"
    asyncio.run(create_backup(place, saved, KEY, quiet))
    monkeypatch.setattr(place, "load", interrupted)
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(restore_backup(place, saved, KEY, quiet))
    assert deleted == ["EVENTS"]


@pytest.mark.usefixtures("own_ctrl_c")
def test_ctrl_c_while_statistics_are_gathered_keeps_what_is_restored(
    tmp_path: Path, deleted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place, saved = Place(tmp_path), tmp_path / "one"
    asyncio.run(create_backup(place, saved, KEY, quiet))
    monkeypatch.setattr(place, "analyze", interrupted)
    asyncio.run(restore_backup(place, saved, KEY, quiet))
    assert (place.loaded, deleted) == ([b"rows"], [])
    assert "interrupted" in place.notes[0]


@pytest.mark.usefixtures("own_ctrl_c")
def test_ctrl_c_while_a_dump_is_made_ends_it_at_once_and_leaves_nothing(
    tmp_path: Path, deleted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place, saved = Place(tmp_path), tmp_path / "b" / "one"
    monkeypatch.setattr(place, "dump", interrupted)
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(create_backup(place, saved, KEY, quiet))
    assert list(saved.parent.iterdir()) == []
    assert deleted == []


def interrupted(*_: object, **__: object) -> None:
    """A slow call that is interrupted by Ctrl-C."""
    signal.raise_signal(signal.SIGINT)
    raise AssertionError("it goes on")


async def test_the_directory_may_be_the_current_one(
    tmp_path: Path, deleted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place, saved = Place(tmp_path), tmp_path / "b" / "one"
    saved.mkdir(parents=True)
    monkeypatch.chdir(saved)
    await create_backup(place, Path(), KEY, quiet)
    # What was empty was replaced.
    monkeypatch.chdir(saved)
    await restore_backup(place, Path(), KEY, quiet)
    assert place.loaded == [b"rows"]
    assert [file.name for file in saved.parent.iterdir()] == ["one"]
    assert deleted == []


async def test_a_mount_point_is_refused_with_what_to_do(
    tmp_path: Path, deleted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = tmp_path / "one"
    saved.mkdir()
    monkeypatch.setattr(Path, "is_mount", lambda path: path == saved)
    with pytest.raises(CommandError, match="is a mount point"):
        await create_backup(Place(tmp_path), saved, KEY, quiet)
    assert deleted == []
    await create_backup(Place(tmp_path), saved / "today", KEY, quiet)


async def test_a_backup_that_fails_leaves_nothing(tmp_path: Path, deleted: list[str]) -> None:
    place, saved = Place(tmp_path), tmp_path / "b" / "one"
    place.fail = "dump"
    with pytest.raises(CommandError, match="pg_dump"):
        await create_backup(place, saved, KEY, quiet)
    assert list(saved.parent.iterdir()) == []
    assert deleted == []


async def test_nothing_is_overwritten(tmp_path: Path, deleted: list[str]) -> None:
    place, saved = Place(tmp_path), tmp_path / "one"
    await create_backup(place, saved, KEY, quiet)
    before = (saved / "backup.age").read_bytes()
    with pytest.raises(CommandError, match="not overwritten"):
        await create_backup(place, saved, KEY, quiet)
    assert (saved / "backup.age").read_bytes() == before
    place.fail = "empty"
    with pytest.raises(CommandError, match="there is one"):
        await restore_backup(place, saved, KEY, quiet)
    assert place.restored == {}
    assert deleted == []


async def test_a_restore_that_fails_half_way_can_be_tried_again(
    tmp_path: Path, deleted: list[str]
) -> None:
    place, saved = Place(tmp_path), tmp_path / "one"
    await create_backup(place, saved, KEY, quiet)
    place.fail = "load"
    with pytest.raises(CommandError, match="pg_restore"):
        await restore_backup(place, saved, KEY, quiet)
    assert deleted == ["EVENTS"]
    assert not place.work.exists()


async def test_a_restore_without_statistics_is_whole(tmp_path: Path, deleted: list[str]) -> None:
    place, saved = Place(tmp_path), tmp_path / "one"
    await create_backup(place, saved, KEY, quiet)
    place.fail = "analyze"
    await restore_backup(place, saved, KEY, quiet)
    assert (place.loaded, deleted) == ([b"rows"], [])
    assert "vacuumdb failed" in place.notes[0]


async def test_a_backup_of_another_kind_is_refused(tmp_path: Path, deleted: list[str]) -> None:
    place, saved = Place(tmp_path), tmp_path / "one"
    await create_backup(place, saved, KEY, quiet)
    place.kind = "compose"
    with pytest.raises(CommandError, match="other kind"):
        await restore_backup(place, saved, KEY, quiet)
    assert deleted == []


def test_every_stream_and_every_schema_is_in_a_backup() -> None:
    assert set(SAVING_ORDER) == set(StreamName)
    assert set(SCHEMAS) == SERVICE_SETTINGS.keys() - {"gateway"}
    for schema in SCHEMAS:
        assert f"--schema={schema}" in DUMP
        assert schema in EXISTING


async def test_streams_are_saved_again_when_a_letter_was_replayed_meanwhile(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    removed, saved = iter([4, 5, 5, 5]), list[str]()

    async def _removed(*_: Any) -> int:
        return next(removed)

    async def save(_client: Any, name: str, *_: Any) -> StreamResult:
        saved.append(name)
        return StreamResult(name, 0, 0)

    monkeypatch.setattr(streams, "_removed", _removed)
    monkeypatch.setattr(streams, "save", save)
    client: Any = None
    assert len(await streams.save_all(client, tmp_path, quiet)) == len(SAVING_ORDER)
    assert saved == [*SAVING_ORDER, *SAVING_ORDER]
    removed = iter(range(100))
    with pytest.raises(StreamError, match="replayed"):
        await streams.save_all(client, tmp_path, quiet)

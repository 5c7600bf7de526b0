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

from cli.backup import sealed, stream_snapshot, streams
from cli.backup.archive import MANIFEST, Key, Kind, create_backup, restore_backup
from cli.backup.postgres_tools import DUMP, EXISTING, SCHEMAS
from cli.backup.stream_snapshot import StreamError, StreamResult
from cli.backup.streams import SAVING_ORDER
from cli.errors import CommandError
from cli.stack.environment import SERVICE_SETTINGS
from hogsend.contract.streams import StreamName

IDENTITY = pyrage.x25519.Identity.generate()
# A public key, because age makes each use of a passphrase take seconds on purpose.
KEY = Key(recipient=str(IDENTITY.to_public()), identity=str(IDENTITY))

NEWER_MANIFEST = b"""{"kind": "local", "version": "9.0.0", "created_at": "2026-01-01T00:00:00Z",
    "streams": [], "files": [], "format": 2}"""


class FakeDeployment:
    """A deployment without servers: its files, and a record of what was restored."""

    kind: Kind = "local"

    def __init__(self, root: Path) -> None:
        self.root = root
        self.work = root / "deployment.opened"
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
            raise CommandError("a deployment exists", "elsewhere")

    def restore_files(self, files: Path) -> None:
        self.mode = files.parent.stat().st_mode & 0o777
        self.files_beside_backup = [file.name for file in (self.root / "b").glob("*")]
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
    """Replace the backup of streams by files; return the names of streams that are deleted."""
    names: list[str] = []

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
        names.append(stream)

    for name, function in (("save_all", save_all), ("restore_all", restore_all)):
        monkeypatch.setattr(streams, name, function)
    monkeypatch.setattr(stream_snapshot, "delete", delete)
    return names


def ignore_progress(_part: str, _size: int) -> None:
    pass


async def test_a_restore_returns_what_was_backed_up(tmp_path: Path, deleted: list[str]) -> None:
    deployment, saved = FakeDeployment(tmp_path), tmp_path / "b" / "one"
    manifest = await create_backup(deployment, saved, KEY, ignore_progress)
    assert sorted(file.name for file in saved.iterdir()) == ["backup.age"]
    assert saved.stat().st_mode & 0o777 == 0o700
    assert await restore_backup(deployment, saved, KEY, ignore_progress) == manifest
    assert manifest.spooled == 0
    assert deployment.loaded == [b"rows"]
    assert deployment.restored == {"secrets/word": b"secret"}
    assert [file.name for file in saved.parent.iterdir()] == ["one"]
    assert deleted == []


async def test_a_backup_is_decrypted_next_to_its_target_and_private_to_its_owner(
    tmp_path: Path, deleted: list[str]
) -> None:
    """The backup itself may be on a read-only medium."""
    deployment, saved = FakeDeployment(tmp_path), tmp_path / "b" / "one"
    await create_backup(deployment, saved, KEY, ignore_progress)
    deployment.work.mkdir()
    (deployment.work / "of-a-run-that-was-killed").touch()
    await restore_backup(deployment, saved, KEY, ignore_progress)
    assert (deployment.mode, deployment.files_beside_backup) == (0o700, ["one"])
    assert not deployment.work.exists()
    assert deleted == []


async def test_a_backup_is_decrypted_only_where_it_fits_on_the_disk(
    tmp_path: Path, deleted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment, saved = FakeDeployment(tmp_path), tmp_path / "one"
    await create_backup(deployment, saved, KEY, ignore_progress)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Mock(free=100))
    with pytest.raises(CommandError, match="GiB of free space"):
        await restore_backup(deployment, saved, KEY, ignore_progress)
    assert deployment.restored == {}
    assert not deployment.work.exists()
    assert deleted == []


@pytest.fixture
def default_sigint_handler() -> Iterator[None]:
    """Install Python's default handler of Ctrl-C, which an earlier test may have replaced."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.mark.usefixtures("default_sigint_handler")
def test_ctrl_c_during_the_decryption_ends_the_restore_at_once_and_restores_nothing(
    tmp_path: Path, deleted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment, saved = FakeDeployment(tmp_path), tmp_path / "one"
    asyncio.run(create_backup(deployment, saved, KEY, ignore_progress))
    monkeypatch.setattr(sealed, "unseal", interrupted)
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(restore_backup(deployment, saved, KEY, ignore_progress))
    assert deployment.restored == {}
    assert not deployment.work.exists()
    assert deleted == []


@pytest.mark.usefixtures("default_sigint_handler")
def test_ctrl_c_during_the_load_of_a_dump_ends_the_restore_and_deletes_its_streams(
    tmp_path: Path, deleted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment, saved = FakeDeployment(tmp_path), tmp_path / "one"
    asyncio.run(create_backup(deployment, saved, KEY, ignore_progress))
    monkeypatch.setattr(deployment, "load", interrupted)
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(restore_backup(deployment, saved, KEY, ignore_progress))
    assert deleted == ["EVENTS"]


@pytest.mark.usefixtures("default_sigint_handler")
def test_ctrl_c_during_the_gathering_of_statistics_keeps_the_restored_data(
    tmp_path: Path, deleted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment, saved = FakeDeployment(tmp_path), tmp_path / "one"
    asyncio.run(create_backup(deployment, saved, KEY, ignore_progress))
    monkeypatch.setattr(deployment, "analyze", interrupted)
    asyncio.run(restore_backup(deployment, saved, KEY, ignore_progress))
    assert (deployment.loaded, deleted) == ([b"rows"], [])
    assert "interrupted" in deployment.notes[0]


@pytest.mark.usefixtures("default_sigint_handler")
def test_ctrl_c_during_a_dump_ends_the_backup_at_once_and_leaves_no_file(
    tmp_path: Path, deleted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment, saved = FakeDeployment(tmp_path), tmp_path / "b" / "one"
    monkeypatch.setattr(deployment, "dump", interrupted)
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(create_backup(deployment, saved, KEY, ignore_progress))
    assert list(saved.parent.iterdir()) == []
    assert deleted == []


def interrupted(*_: object, **__: object) -> None:
    """Stand in for a long step during which the user presses Ctrl-C."""
    signal.raise_signal(signal.SIGINT)
    raise AssertionError("SIGINT did not interrupt the step")


async def test_a_backup_can_be_written_to_the_current_directory(
    tmp_path: Path, deleted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment, saved = FakeDeployment(tmp_path), tmp_path / "b" / "one"
    saved.mkdir(parents=True)
    monkeypatch.chdir(saved)
    await create_backup(deployment, Path(), KEY, ignore_progress)
    # The backup has replaced the empty directory, so the path is entered again.
    monkeypatch.chdir(saved)
    await restore_backup(deployment, Path(), KEY, ignore_progress)
    assert deployment.loaded == [b"rows"]
    assert [file.name for file in saved.parent.iterdir()] == ["one"]
    assert deleted == []


async def test_a_mount_point_is_refused_and_a_directory_in_it_accepted(
    tmp_path: Path, deleted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = tmp_path / "one"
    saved.mkdir()
    monkeypatch.setattr(Path, "is_mount", lambda path: path == saved)
    with pytest.raises(CommandError, match="is a mount point"):
        await create_backup(FakeDeployment(tmp_path), saved, KEY, ignore_progress)
    assert deleted == []
    await create_backup(FakeDeployment(tmp_path), saved / "today", KEY, ignore_progress)


async def test_a_failed_backup_leaves_no_file(tmp_path: Path, deleted: list[str]) -> None:
    deployment, saved = FakeDeployment(tmp_path), tmp_path / "b" / "one"
    deployment.fail = "dump"
    with pytest.raises(CommandError, match="pg_dump"):
        await create_backup(deployment, saved, KEY, ignore_progress)
    assert list(saved.parent.iterdir()) == []
    assert deleted == []


async def test_a_failed_backup_keeps_an_empty_directory_that_the_operator_made(
    tmp_path: Path, deleted: list[str]
) -> None:
    deployment, saved = FakeDeployment(tmp_path), tmp_path / "one"
    saved.mkdir()
    deployment.fail = "dump"
    with pytest.raises(CommandError, match="pg_dump"):
        await create_backup(deployment, saved, KEY, ignore_progress)
    assert list(saved.iterdir()) == []
    deployment.fail = ""
    await create_backup(deployment, saved, KEY, ignore_progress)
    assert [file.name for file in saved.iterdir()] == ["backup.age"]
    assert not saved.with_name("one.part").exists()
    assert deleted == []


async def test_remains_of_a_backup_that_was_killed_are_replaced(
    tmp_path: Path, deleted: list[str]
) -> None:
    deployment, saved = FakeDeployment(tmp_path), tmp_path / "b" / "one"
    remains = tmp_path / "b" / "one.part" / "work"
    remains.mkdir(parents=True)
    (remains / "postgres.dump").write_bytes(b"half")
    await create_backup(deployment, saved, KEY, ignore_progress)
    assert [file.name for file in saved.parent.iterdir()] == ["one"]
    await restore_backup(deployment, saved, KEY, ignore_progress)
    assert (deployment.loaded, deleted) == ([b"rows"], [])


async def test_a_stream_that_cannot_be_saved_or_restored_is_an_error_with_a_fix(
    tmp_path: Path, deleted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment, saved = FakeDeployment(tmp_path), tmp_path / "b" / "one"

    async def fail(*_: object, **__: object) -> None:
        raise StreamError("the stream EVENTS is damaged", "repair it")

    with monkeypatch.context() as broken:
        broken.setattr(streams, "save_all", fail)
        with pytest.raises(CommandError, match="EVENTS is damaged") as raised:
            await create_backup(deployment, saved, KEY, ignore_progress)
    assert raised.value.fix == "repair it"
    assert list(saved.parent.iterdir()) == []
    await create_backup(deployment, saved, KEY, ignore_progress)
    monkeypatch.setattr(streams, "restore_all", fail)
    with pytest.raises(CommandError, match="EVENTS is damaged") as raised:
        await restore_backup(deployment, saved, KEY, ignore_progress)
    assert raised.value.fix == "repair it"
    assert (deployment.loaded, deployment.work.exists(), deleted) == ([], False, [])


async def test_a_backup_for_an_invalid_recipient_or_with_another_identity_is_an_error_with_a_fix(
    tmp_path: Path, deleted: list[str]
) -> None:
    deployment, saved = FakeDeployment(tmp_path), tmp_path / "b" / "one"
    with pytest.raises(CommandError, match="not an age public key") as raised:
        await create_backup(deployment, saved, Key(recipient="ssh-ed25519"), ignore_progress)
    assert raised.value.fix
    assert list(saved.parent.iterdir()) == []
    await create_backup(deployment, saved, KEY, ignore_progress)
    other = Key(identity=str(pyrage.x25519.Identity.generate()))
    with pytest.raises(CommandError, match="sealed for another key") as raised:
        await restore_backup(deployment, saved, other, ignore_progress)
    assert raised.value.fix
    assert (deployment.restored, deployment.work.exists(), deleted) == ({}, False, [])


@pytest.mark.parametrize(
    ("manifest", "problem"),
    [
        (None, "not a backup of Hogsend"),
        (b"{", "not a backup of Hogsend"),
        (b'{"kind": "local"}', "not a backup of Hogsend"),
        (NEWER_MANIFEST, "made by a newer version, 9.0.0"),
    ],
)
async def test_another_archive_or_a_backup_of_a_newer_version_is_refused(
    tmp_path: Path, deleted: list[str], manifest: bytes | None, problem: str
) -> None:
    deployment, saved = FakeDeployment(tmp_path), tmp_path / "one"
    saved.mkdir()
    content = tmp_path / "content"
    content.write_bytes(manifest or b"")
    with sealed.sealing(saved, passphrase=None, recipient=KEY.recipient) as archive:
        archive.add(content, "notes.txt" if manifest is None else MANIFEST)
    with pytest.raises(CommandError, match=problem) as raised:
        await restore_backup(deployment, saved, KEY, ignore_progress)
    assert raised.value.fix
    assert (deployment.restored, deployment.work.exists(), deleted) == ({}, False, [])


async def test_an_existing_backup_or_deployment_is_not_overwritten(
    tmp_path: Path, deleted: list[str]
) -> None:
    deployment, saved = FakeDeployment(tmp_path), tmp_path / "one"
    await create_backup(deployment, saved, KEY, ignore_progress)
    before = (saved / "backup.age").read_bytes()
    with pytest.raises(CommandError, match="not overwritten"):
        await create_backup(deployment, saved, KEY, ignore_progress)
    assert (saved / "backup.age").read_bytes() == before
    file = tmp_path / "file"
    file.write_text("kept")
    with pytest.raises(CommandError, match="not overwritten"):
        await create_backup(deployment, file, KEY, ignore_progress)
    assert file.read_text() == "kept"
    deployment.fail = "empty"
    with pytest.raises(CommandError, match="a deployment exists"):
        await restore_backup(deployment, saved, KEY, ignore_progress)
    assert deployment.restored == {}
    assert deleted == []


async def test_a_failed_restore_deletes_its_streams_and_files(
    tmp_path: Path, deleted: list[str]
) -> None:
    deployment, saved = FakeDeployment(tmp_path), tmp_path / "one"
    await create_backup(deployment, saved, KEY, ignore_progress)
    deployment.fail = "load"
    with pytest.raises(CommandError, match="pg_restore"):
        await restore_backup(deployment, saved, KEY, ignore_progress)
    assert deleted == ["EVENTS"]
    assert not deployment.work.exists()


async def test_a_restore_succeeds_although_gathering_statistics_fails(
    tmp_path: Path, deleted: list[str]
) -> None:
    deployment, saved = FakeDeployment(tmp_path), tmp_path / "one"
    await create_backup(deployment, saved, KEY, ignore_progress)
    deployment.fail = "analyze"
    await restore_backup(deployment, saved, KEY, ignore_progress)
    assert (deployment.loaded, deleted) == ([b"rows"], [])
    assert "vacuumdb failed" in deployment.notes[0]


async def test_a_backup_of_another_kind_is_refused(tmp_path: Path, deleted: list[str]) -> None:
    deployment, saved = FakeDeployment(tmp_path), tmp_path / "one"
    await create_backup(deployment, saved, KEY, ignore_progress)
    deployment.kind = "compose"
    with pytest.raises(CommandError, match="other kind"):
        await restore_backup(deployment, saved, KEY, ignore_progress)
    assert deleted == []


def test_a_backup_covers_every_stream_and_every_schema() -> None:
    assert set(SAVING_ORDER) == set(StreamName)
    assert set(SCHEMAS) == SERVICE_SETTINGS.keys() - {"gateway"}
    for schema in SCHEMAS:
        assert f"--schema={schema}" in DUMP
        assert schema in EXISTING


async def test_streams_are_saved_again_when_a_dead_letter_was_replayed_meanwhile(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    removed, saved = iter([4, 5, 5, 5]), list[str]()

    async def count_removed(*_: Any) -> int:
        return next(removed)

    async def save(_client: Any, name: str, *_: Any) -> StreamResult:
        saved.append(name)
        return StreamResult(name, 0, 0)

    monkeypatch.setattr(streams, "count_removed", count_removed)
    monkeypatch.setattr(streams, "save", save)
    client: Any = None
    assert len(await streams.save_all(client, tmp_path, ignore_progress)) == len(SAVING_ORDER)
    assert saved == [*SAVING_ORDER, *SAVING_ORDER]
    removed = iter(range(100))
    with pytest.raises(StreamError, match="replayed"):
        await streams.save_all(client, tmp_path, ignore_progress)

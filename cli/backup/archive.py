"""Backup of a whole deployment as one sealed archive, and its restore.

The archive has the streams, PostgreSQL, settings and secrets. The streams are saved first and
PostgreSQL last. A message that moves on during the backup is then saved twice instead of never, and
its id identifies it as a duplicate (`cli.backup.streams.SAVING_ORDER`). The backup has everything
that was accepted before it started; messages accepted during the backup may be missing.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Protocol

import msgspec
from nats.aio.client import Client

from cli.backup import sealed, spools, stream_snapshot, streams
from cli.backup.interruptible import interruptible
from cli.backup.sealed import SealError
from cli.backup.stream_snapshot import Progress, StreamError, StreamResult
from cli.backup.work_directory import work_directory
from cli.errors import CommandError
from cli.stack.data_directory import write_private
from hogsend import __version__
from hogsend.contract.json_text import NOT_JSON

FORMAT = 1
MANIFEST = "manifest.json"
DUMP = "postgres.dump"
STREAMS = "streams"
FILES = "files"

Kind = Literal["local", "compose"]


class Manifest(msgspec.Struct, frozen=True):
    """The content of a backup."""

    kind: Kind
    version: str
    created_at: datetime
    streams: list[StreamResult]
    files: list[str]
    format: int = FORMAT
    spooled: int | None = None
    """Webhooks in gateways' spools that are not in the backup; None if that is unknown."""


class Key(msgspec.Struct, frozen=True):
    """The key of a backup: exactly one of the fields is set."""

    passphrase: str | None = None
    recipient: str | None = None
    identity: str | None = None

    def __repr__(self) -> str:
        """Hide the passphrase and the identity."""
        return f"Key(recipient={self.recipient!r})"


class Source(Protocol):
    """A deployment to back up."""

    kind: Kind

    def operator(self) -> AbstractAsyncContextManager[Client]:
        """Connect to NATS as the operator."""

    async def gateways(self) -> Sequence[str]:
        """Return the URLs of the gateways, as reached from this machine."""

    def dump(self, file: Path) -> None:
        """Write a dump of PostgreSQL in pg_dump's custom format."""

    def files(self) -> Mapping[str, Path]:
        """Return the files with settings and secrets, by their names in the backup."""


class Target(Protocol):
    """An empty deployment to restore a backup to."""

    kind: Kind
    work: Path
    """Directory on the target's disk to unpack the backup into; it does not exist yet."""
    notes: list[str]
    """Notes for the operator, printed after the restore."""

    def require_empty(self) -> None:
        """Check that the restore would overwrite nothing."""

    def restore_files(self, files: Path) -> None:
        """Copy the settings and secrets to their places."""

    def servers(self) -> AbstractAsyncContextManager[Client]:
        """Run only NATS and PostgreSQL; yields a connection as the operator."""

    def copies(self) -> int | None:
        """Return the number of replicas of a stream; None for as many as in the backup."""

    def load(self, dump: Path) -> None:
        """Load a dump into PostgreSQL."""

    def analyze(self) -> None:
        """Make PostgreSQL gather statistics, which a dump does not include.

        Raises:
            CommandError: gathering them fails.
        """


async def create_backup(source: Source, directory: Path, key: Key, progress: Progress) -> Manifest:
    """Write a sealed backup into a new directory, which appears once the backup is complete.

    Raises:
        CommandError: the directory is not empty, or a part cannot be saved.
    """
    directory = _with_name(directory)
    _require_new(directory)
    part = directory.with_name(f"{directory.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    work = part / "work"
    work.mkdir(parents=True, mode=0o700)
    part.chmod(0o700)
    try:
        async with source.operator() as client:
            # Before the streams are saved, so that webhooks that leave a spool are in a stream.
            spooled = await spools.wait_until_drained(await source.gateways(), progress)
            results = await streams.save_all(client, work / STREAMS, progress)
        progress("PostgreSQL", 0)
        with interruptible():
            source.dump(work / DUMP)
        files = source.files()
        manifest = Manifest(
            source.kind, __version__, datetime.now(UTC), results, sorted(files), spooled=spooled
        )
        write_private(work / MANIFEST, msgspec.json.encode(manifest).decode())
        with (
            interruptible(),
            sealed.sealing(part, passphrase=key.passphrase, recipient=key.recipient) as archive,
        ):
            archive.add(work / MANIFEST, MANIFEST)
            for file in sorted((work / STREAMS).rglob("*")):
                if file.is_file():
                    archive.add(file, f"{STREAMS}/{file.relative_to(work / STREAMS)}")
            archive.add(work / DUMP, DUMP)
            for name, file in sorted(files.items()):
                archive.add(file.resolve(), f"{FILES}/{name}")
        shutil.rmtree(work)
        # Also replaces an empty directory.
        part.rename(directory)
    except (StreamError, SealError) as error:
        raise CommandError(str(error), error.fix) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return manifest


async def restore_backup(target: Target, directory: Path, key: Key, progress: Progress) -> Manifest:
    """Restore a sealed backup to an empty deployment.

    Raises:
        CommandError: the deployment is not empty, the backup cannot be opened, or a part cannot be
            restored.
    """
    directory = _with_name(directory)
    await asyncio.to_thread(target.require_empty)
    try:
        with work_directory(target.work, directory):
            return await _restore(target, directory, key, progress)
    except (StreamError, SealError) as error:
        raise CommandError(str(error), error.fix) from error


async def _restore(target: Target, directory: Path, key: Key, progress: Progress) -> Manifest:
    work = target.work
    with interruptible():
        sealed.unseal(directory, work, passphrase=key.passphrase, identity=key.identity)
    manifest = _manifest(work)
    if manifest.kind != target.kind:
        raise CommandError(
            f"this is a backup of another kind of deployment: {manifest.kind}",
            {
                "local": "restore it with `hogsend restore`",
                "compose": "restore it with `hogsend compose restore`",
            }[manifest.kind],
        )
    target.restore_files(work / FILES)
    async with target.servers() as client:
        restored = await streams.restore_all(
            client, work / STREAMS, progress, copies=target.copies()
        )
        progress("PostgreSQL", 0)
        try:
            # In one transaction. If it fails, the streams are deleted too, so that the target is
            # empty again and the restore can be retried.
            with interruptible():
                target.load(work / DUMP)
        except BaseException:
            for result in restored:
                await stream_snapshot.delete(client, result.stream)
            raise
        try:
            with interruptible():
                target.analyze()
        except (CommandError, KeyboardInterrupt) as error:
            # The data are complete without statistics, so the restore succeeds.
            target.notes.append(
                "PostgreSQL has no statistics, and is slow until its autovacuum has gathered some "
                f"or you run ANALYZE; gathering them failed: {str(error) or 'interrupted'}"
            )
    return manifest


def _manifest(work: Path) -> Manifest:
    try:
        manifest = msgspec.json.decode((work / MANIFEST).read_bytes(), type=Manifest)
    except (OSError, *NOT_JSON) as error:
        raise CommandError("this is not a backup of Hogsend", "use another backup") from error
    if manifest.format > FORMAT:
        raise CommandError(
            f"this backup was made by a newer version, {manifest.version}",
            "restore it with that version",
        )
    return manifest


def _with_name(directory: Path) -> Path:
    """Return the absolute path, whose name temporary directories extend; `.` has no name."""
    return directory.resolve()


def _require_new(directory: Path) -> None:
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise CommandError(
            f"{directory} exists already and is not overwritten",
            "pass a new directory, for example one named by the date",
        )
    if directory.is_mount():
        raise CommandError(
            f"{directory} is a mount point, which cannot be replaced", "pass a new directory in it"
        )

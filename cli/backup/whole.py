"""A whole deployment as one sealed archive, and back: streams, PostgreSQL, settings and secrets.

Streams come first and PostgreSQL last, so that what moves on in the meantime is in both, and is
recognised by its id when it is restored (`cli.backup.streams.SAVING_ORDER`). What is accepted while
a backup is made may be in it; what was accepted before is.
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

from cli.backup import sealed, spools, streams
from cli.backup.interruptible import interruptible
from cli.backup.opened import opened
from cli.backup.sealed import SealError
from cli.backup.streams import Done, Progress, StreamError
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
    """What is in a backup."""

    kind: Kind
    version: str
    created_at: datetime
    streams: list[Done]
    files: list[str]
    format: int = FORMAT
    spooled: int | None = None
    """Webhooks that waited in the spools of gateways, and are not in it; None when unknown."""


class Key(msgspec.Struct, frozen=True):
    """What seals a backup, or opens it: one of them."""

    passphrase: str | None = None
    recipient: str | None = None
    identity: str | None = None


class Source(Protocol):
    """A deployment that is backed up."""

    kind: Kind

    def operator(self) -> AbstractAsyncContextManager[Client]:
        """Connect to NATS as the operator."""

    async def gateways(self) -> Sequence[str]:
        """Addresses of its gateways, on this machine."""

    def dump(self, file: Path) -> None:
        """Write a dump of PostgreSQL, in pg_dump's custom format."""

    def files(self) -> Mapping[str, Path]:
        """Files with settings and secrets, by the names they have in the backup."""


class Target(Protocol):
    """An empty deployment that a backup is restored to."""

    kind: Kind
    work: Path
    """Directory on its disk for what is restored, meanwhile; it does not exist."""
    notes: list[str]
    """What the operator should know once it is restored."""

    def require_empty(self) -> None:
        """Check that nothing is there that would be overwritten."""

    def restore_files(self, files: Path) -> None:
        """Put settings and secrets where they belong."""

    def servers(self) -> AbstractAsyncContextManager[Client]:
        """Run NATS and PostgreSQL and nothing else; gives a connection as the operator."""

    def copies(self) -> int | None:
        """On how many NATS servers a stream is; None for as many as in the backup."""

    def load(self, dump: Path) -> None:
        """Load a dump into PostgreSQL."""

    def analyze(self) -> None:
        """Have PostgreSQL gather statistics: a dump has none.

        Raises:
            CommandError: it cannot.
        """


async def back_up(source: Source, directory: Path, key: Key, progress: Progress) -> Manifest:
    """Write a sealed backup into a directory that does not exist yet, all of it or nothing.

    Raises:
        CommandError: the directory is not empty, or something cannot be saved.
    """
    directory = _named(directory)
    _require_new(directory)
    part = directory.with_name(f"{directory.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    work = part / "work"
    work.mkdir(parents=True, mode=0o700)
    part.chmod(0o700)
    try:
        async with source.operator() as client:
            # First: what leaves a spool from now on is in a stream.
            spooled = await spools.waited_for(await source.gateways(), progress)
            done = await streams.save_all(client, work / STREAMS, progress)
        progress("PostgreSQL", 0)
        with interruptible():
            source.dump(work / DUMP)
        files = source.files()
        manifest = Manifest(
            source.kind, __version__, datetime.now(UTC), done, sorted(files), spooled=spooled
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
        directory.parent.mkdir(parents=True, exist_ok=True)
        part.rename(directory)
    except (StreamError, SealError) as error:
        raise CommandError(str(error), error.fix) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return manifest


async def bring_back(target: Target, directory: Path, key: Key, progress: Progress) -> Manifest:
    """Restore a sealed backup to an empty deployment.

    Raises:
        CommandError: it is not empty, the backup cannot be opened, or something cannot be restored.
    """
    directory = _named(directory)
    await asyncio.to_thread(target.require_empty)
    try:
        with opened(target.work, directory):
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
            f"this is another kind of backup: {manifest.kind}",
            {
                "local": "restore it with `hogsend restore`",
                "compose": "restore it with `hogsend compose restore`",
            }[manifest.kind],
        )
    target.restore_files(work / FILES)
    async with target.servers() as client:
        done = await streams.restore_all(client, work / STREAMS, progress, copies=target.copies())
        progress("PostgreSQL", 0)
        try:
            # In one transaction. Nothing or all is there, so that it can be tried again.
            with interruptible():
                target.load(work / DUMP)
        except BaseException:
            for one in done:
                await streams.delete(client, one.stream)
            raise
        try:
            with interruptible():
                target.analyze()
        except (CommandError, KeyboardInterrupt) as error:
            # All of it is restored, and stays.
            target.notes.append(
                "PostgreSQL has no statistics, and is slow until its autovacuum has gathered "
                f"some, or ANALYZE has: {str(error) or 'it was interrupted'}"
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


def _named(directory: Path) -> Path:
    """Give a directory the name that another one beside it is named after; `.` has none."""
    return directory.resolve()


def _require_new(directory: Path) -> None:
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise CommandError(
            f"{directory} exists already, and is not overwritten",
            "give a new directory, for example one named by the date",
        )
    if directory.is_mount():
        raise CommandError(
            f"{directory} is a mount point, which cannot be replaced", "give a new directory in it"
        )
    if directory.exists():
        directory.rmdir()

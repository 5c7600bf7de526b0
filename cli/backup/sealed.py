"""Files sealed in the format of age (age-encryption.org), which `age` itself opens, too.

A backup is two files. `backup.age` is for a key that was made for it alone; `key.age` is that key,
for a passphrase. `age -d -i key.age backup.age | tar -x` reads them without Hogsend. With a
recipient of the operator's own (`age1...`) there is no `key.age`.
"""

from __future__ import annotations

import os
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

import pyrage
import stamina

CONTENT = "backup.age"
KEY = "key.age"
OPENING_SECONDS = 60.0
"""How long opening `key.age` is tried on a machine that seems to be too slow for it."""


class SealError(Exception):
    """A backup cannot be sealed or opened. The text is safe to print."""

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(problem)
        self.fix = fix


@contextmanager
def sealing(
    directory: Path, *, passphrase: str | None, recipient: str | None
) -> Iterator[tarfile.TarFile]:
    """Write a sealed archive; files are added to what this gives.

    Args:
        directory: where to, without an archive in it.
        passphrase: what opens it, or
        recipient: the public key of who may.

    Raises:
        SealError: the recipient is none, or sealing fails.
    """
    if recipient is not None:
        try:
            public = pyrage.x25519.Recipient.from_str(recipient)
        except pyrage.RecipientError as error:
            raise SealError(
                "the recipient is not a public key of age", "give one that begins with age1"
            ) from error
    else:
        identity = pyrage.x25519.Identity.generate()
        public = identity.to_public()
        text = f"{identity}\n".encode()
        _write(directory / KEY, pyrage.passphrase.encrypt(text, passphrase or ""))
    with _private(directory / CONTENT) as sealed:
        reading, writing = os.pipe()
        failures: list[Exception] = []

        def seal() -> None:
            with os.fdopen(reading, "rb") as plain:
                try:
                    pyrage.encrypt_io(plain, sealed, [public])
                except Exception as error:  # noqa: BLE001 - raised again by who waits
                    failures.append(error)

        thread = threading.Thread(target=seal)
        thread.start()
        try:
            with (
                os.fdopen(writing, "wb") as plain,
                tarfile.open(fileobj=plain, mode="w|") as archive,
            ):
                yield archive
        except BrokenPipeError:
            if not failures:
                raise
        finally:
            thread.join()
        if failures:
            raise SealError("the backup cannot be written", "make room on the disk") from failures[
                0
            ]
        sealed.flush()
        os.fsync(sealed.fileno())


def unseal(directory: Path, target: Path, *, passphrase: str | None, identity: str | None) -> None:
    """Unpack a sealed archive into a directory that only its owner can read.

    Args:
        directory: where `sealing` wrote.
        target: an empty directory.
        passphrase: what opens `key.age`, or
        identity: the private key of the recipient.

    Raises:
        SealError: it is no backup, damaged, or sealed for another passphrase or key.
    """
    try:
        text = identity if identity is not None else _key(directory, passphrase or "")
        private = pyrage.x25519.Identity.from_str(text.strip())
    except (pyrage.DecryptError, pyrage.IdentityError) as error:
        raise SealError(
            "the passphrase or key does not open this backup",
            "give the one that it was made with",
        ) from error
    reading, writing = os.pipe()
    failures: list[Exception] = []

    def open_() -> None:
        with os.fdopen(writing, "wb") as plain:
            try:
                with (directory / CONTENT).open("rb") as sealed:
                    pyrage.decrypt_io(sealed, plain, [private])
            except Exception as error:  # noqa: BLE001 - raised again by who waits
                failures.append(error)

    thread = threading.Thread(target=open_)
    thread.start()
    try:
        with os.fdopen(reading, "rb") as plain:
            try:
                _extract(plain, target)
            except (tarfile.TarError, FileExistsError) as error:
                # A file that is there twice, or below another file, is none of ours either.
                failures.append(error)
            while plain.read(1024 * 1024):
                # What follows the end of the archive; without it the writer would wait for ever.
                pass
    finally:
        thread.join()
    if failures:
        raise SealError(
            f"{directory / CONTENT} is damaged, or sealed for another key", "use another backup"
        ) from failures[0]


def _key(directory: Path, passphrase: str) -> str:
    try:
        sealed = (directory / KEY).read_bytes()
    except FileNotFoundError as error:
        raise SealError(
            f"there is no {KEY} in {directory}",
            "give the directory of a backup, or --identity if it is sealed for a key of yours",
        ) from error
    try:
        # How slow this machine is, age measures each time: one that is busy may soon be less so.
        for attempt in stamina.retry_context(
            on=_seems_too_slow, attempts=None, timeout=OPENING_SECONDS
        ):
            with attempt:
                return str(pyrage.passphrase.decrypt(sealed, passphrase).decode())
        raise AssertionError("it is tried at least once")
    except pyrage.DecryptError as error:
        if not _seems_too_slow(error):
            raise
        raise SealError(
            f"this machine seems to be too busy, or too slow, to open {KEY}",
            "run it again when less runs here, or open it with age, as in `age -d "
            f"{directory / KEY} > key.txt`, and give --identity key.txt",
        ) from error


def _seems_too_slow(error: Exception) -> bool:
    """Whether age refused because opening would take 16 times as long as sealing was to take."""
    return "Excessive work parameter" in str(error)


def _extract(plain: IO[bytes], target: Path) -> None:
    with tarfile.open(fileobj=plain, mode="r|") as archive:
        for member in archive:
            name = PurePosixPath(member.name)
            content = archive.extractfile(member) if member.isfile() else None
            if content is None or name.is_absolute() or ".." in name.parts:
                raise tarfile.TarError(f"{member.name} does not belong into a backup")
            file = target / name
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with _private(file) as written:
                while chunk := content.read(1024 * 1024):
                    written.write(chunk)


def _write(file: Path, content: bytes) -> None:
    with _private(file) as written:
        written.write(content)


def _private(file: Path) -> IO[bytes]:
    """Create a file that only its owner can read, and that was not there."""
    return os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")

"""Sealed archives: tar files encrypted with age (age-encryption.org), readable by `age` itself.

A backup has two files. `backup.age` is the archive, encrypted for a key that was generated for
this backup. `key.age` is that key, encrypted with the passphrase. Without Hogsend,
`age -d -i key.age backup.age | tar -x` unpacks them. A backup for a recipient (`age1...`) has no
`key.age`.
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
"""How long to retry opening `key.age` while age finds the machine too slow for it."""


class SealError(Exception):
    """A backup cannot be sealed or opened. The text is safe to print."""

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(problem)
        self.fix = fix


@contextmanager
def sealing(
    directory: Path, *, passphrase: str | None, recipient: str | None
) -> Iterator[tarfile.TarFile]:
    """Write a sealed archive; the caller adds files to the tar file that this yields.

    Args:
        directory: the target directory, without an archive in it.
        passphrase: the passphrase to seal it with; or
        recipient: the age public key to seal it for.

    Raises:
        SealError: the recipient is not an age public key, or sealing fails.
    """
    if recipient is not None:
        try:
            public = pyrage.x25519.Recipient.from_str(recipient)
        except pyrage.RecipientError as error:
            raise SealError(
                "the recipient is not an age public key", "pass a key that starts with age1"
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
                except Exception as error:  # noqa: BLE001 - raised again after the join
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
            raise SealError(
                "the backup cannot be written", "free space on its disk, then run it again"
            ) from failures[0]
        sealed.flush()
        os.fsync(sealed.fileno())


def unseal(directory: Path, target: Path, *, passphrase: str | None, identity: str | None) -> None:
    """Unpack a sealed archive into a directory that only its owner can read.

    Args:
        directory: the directory that `sealing` wrote to.
        target: an empty directory.
        passphrase: the passphrase of `key.age`; or
        identity: the private key of the recipient.

    Raises:
        SealError: it is not a backup, is damaged, or was sealed with another passphrase or key.
    """
    try:
        text = identity if identity is not None else _key(directory, passphrase or "")
        private = pyrage.x25519.Identity.from_str(text.strip())
    except (pyrage.DecryptError, pyrage.IdentityError) as error:
        raise SealError(
            "the passphrase or key does not open this backup",
            "use the passphrase or key that it was made with",
        ) from error
    reading, writing = os.pipe()
    failures: list[Exception] = []

    def open_() -> None:
        with os.fdopen(writing, "wb") as plain:
            try:
                with (directory / CONTENT).open("rb") as sealed:
                    pyrage.decrypt_io(sealed, plain, [private])
            except Exception as error:  # noqa: BLE001 - raised again after the join
                failures.append(error)

    thread = threading.Thread(target=open_)
    thread.start()
    try:
        with os.fdopen(reading, "rb") as plain:
            try:
                _extract(plain, target)
            except (tarfile.TarError, FileExistsError) as error:
                # FileExistsError: a file occurs twice, or below another file, as in no backup.
                failures.append(error)
            while plain.read(1024 * 1024):
                # Drains bytes after the end of the archive, so that the writing thread can end.
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
            "pass the directory of a backup; add --identity if it was made with --recipient",
        ) from error
    try:
        # age measures the speed of the machine at each attempt, and a busy machine may recover.
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
            f"this machine seems to be too busy or too slow to open {KEY}",
            f"run it again when the machine is less busy; or run `age -d {directory / KEY} > "
            "key.txt` and pass --identity key.txt",
        ) from error


def _seems_too_slow(error: Exception) -> bool:
    """Whether age refused because it estimates that opening takes 16 times as long as sealing."""
    return "Excessive work parameter" in str(error)


def _extract(plain: IO[bytes], target: Path) -> None:
    with tarfile.open(fileobj=plain, mode="r|") as archive:
        for member in archive:
            name = PurePosixPath(member.name)
            content = archive.extractfile(member) if member.isfile() else None
            if content is None or name.is_absolute() or ".." in name.parts:
                raise tarfile.TarError(f"{member.name} does not belong in a backup")
            file = target / name
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with _private(file) as written:
                while chunk := content.read(1024 * 1024):
                    written.write(chunk)


def _write(file: Path, content: bytes) -> None:
    with _private(file) as written:
        written.write(content)
        written.flush()
        os.fsync(written.fileno())


def _private(file: Path) -> IO[bytes]:
    """Create a new file that only its owner can read.

    Raises:
        FileExistsError: it exists.
    """
    return os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")

"""`HOGSEND_HOME`, the data directory of the local stack, readable by its owner only."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from cli.errors import CommandError


class DataDirectory:
    """The directory with the servers' data, the generated secrets and the logs."""

    def __init__(self, path: Path) -> None:
        """Create the directory if it is missing.

        Raises:
            CommandError: it is not writable.
        """
        self.path = path.expanduser().resolve()
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
            # If root starts the stack, PostgreSQL runs as another user, who must traverse this.
            self.path.chmod(0o711 if os.geteuid() == 0 else 0o700)
            self.logs.chmod(0o700)
        except OSError as error:
            raise CommandError(
                f"the data directory {self.path} is not writable ({error.strerror})",
                "set HOGSEND_HOME to a directory you own",
            ) from error

    @property
    def logs(self) -> Path:
        """Directory of the logs, one file for each process."""
        return self.path / "logs"

    def secret_file(self, name: str) -> Path:
        """Return the file of a generated secret."""
        return self.path / "secrets" / name

    def secret(self, name: str) -> str:
        """Return a secret. It is generated on first use and then kept."""
        file = self.secret_file(name)
        file.parent.mkdir(mode=0o700, exist_ok=True)
        if not file.exists():
            write_private(file, secrets.token_urlsafe(32) + "\n")
        return file.read_text().strip()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the directory during the block, so that no second stack uses it.

        Raises:
            CommandError: another stack has locked it.
        """
        # Private, since any user who can open the file could lock it.
        with private(self.path / "lock") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CommandError(
                    f"another stack is using {self.path}",
                    "stop it; or, for a second stack, set HOGSEND_HOME, GATEWAY_PORT and NATS_PORT",
                ) from None
            yield


def private(file: Path) -> IO[bytes]:
    """Open an empty file that only its owner can read."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.fchmod(descriptor, 0o600)
    return os.fdopen(descriptor, "wb")


def write_private(file: Path, content: str | bytes) -> None:
    """Replace a file atomically; only its owner can read it."""
    fresh = file.with_name(f"{file.name}.new")
    with private(fresh) as stream:
        stream.write(content.encode() if isinstance(content, str) else content)
        # Before the rename: a power failure could otherwise leave an empty file, for example
        # without the key of the stored credential.
        stream.flush()
        os.fsync(stream.fileno())
    fresh.replace(file)

"""The data directory: everything the local stack keeps, readable by its owner only."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cli.errors import CommandError


class Home:
    """`HOGSEND_HOME`: data of the servers, generated secrets, logs."""

    def __init__(self, path: Path) -> None:
        """Make the directory when it is missing.

        Raises:
            CommandError: it cannot be written.
        """
        self.path = path.expanduser().resolve()
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
            # Root's PostgreSQL runs as another user, who has to pass through.
            self.path.chmod(0o711 if os.geteuid() == 0 else 0o700)
            self.logs.chmod(0o700)
        except OSError as error:
            raise CommandError(
                f"the data directory {self.path} cannot be written ({error.strerror})",
                "set HOGSEND_HOME to a directory you own",
            ) from error

    @property
    def logs(self) -> Path:
        """One file for each process."""
        return self.path / "logs"

    def secret_file(self, name: str) -> Path:
        """Where a generated secret is kept."""
        return self.path / "secrets" / name

    def secret(self, name: str) -> str:
        """Give a secret that was generated once and is kept for good."""
        file = self.secret_file(name)
        file.parent.mkdir(mode=0o700, exist_ok=True)
        if not file.exists():
            write_private(file, secrets.token_urlsafe(32) + "\n")
        return file.read_text().strip()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second stack away from this directory.

        Raises:
            CommandError: another one is using it.
        """
        with (self.path / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CommandError(
                    f"another `hogsend up` is using {self.path}",
                    "stop it, or set HOGSEND_HOME, GATEWAY_PORT and NATS_PORT for a second one",
                ) from None
            yield


def write_private(file: Path, text: str) -> None:
    """Write a file only its owner can read, replacing it whole."""
    fresh = file.with_name(f"{file.name}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)
    fresh.replace(file)

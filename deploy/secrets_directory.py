"""Reads and writes the files of a deployment's secrets, and generates their values.

Needs only Python, like `generate_secrets.py`, which uses it.
"""

from __future__ import annotations

import base64
import re
import secrets
from pathlib import Path

ENTROPY_BYTES = 24


def new_signing_key() -> str:
    """Generate a signing key of Standard Webhooks, which is base64."""
    return base64.b64encode(secrets.token_bytes(ENTROPY_BYTES)).decode()


def new_secret() -> str:
    """Generate a password or key."""
    # Starts with a letter, since nats-server parses a variable that looks like a number as one.
    return f"s{secrets.token_hex(ENTROPY_BYTES)}"


def with_password(text: str, user: str, password: str) -> str | None:
    """Replace a user's password in all URLs in a text; return None if it has no URL of the user."""
    changed, count = re.subn(rf"(://{user}:)[^@/\s]*@", rf"\g<1>{password}@", text)
    # The password that NATS requires of the routes of other servers.
    changed = re.sub(r'(password: ")[^"]*"', rf'\g<1>{password}"', changed)
    return changed if count else None


class Directory:
    """The directory of the files. Only its owner may enter it; the files are world-readable."""

    def __init__(self, path: Path) -> None:
        """Create the directory if it is missing."""
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.chmod(0o700)
        self._path = path
        self.written: list[str] = []

    def secret(self, name: str) -> str:
        """Return a secret; generate it if its file is missing."""
        return self.file(name, f"{new_secret()}\n").strip()

    def file(self, name: str, content: str) -> str:
        """Write a file if it is missing, and return its content."""
        file = self._path / name
        if file.exists():
            return file.read_text()
        self._write(name, content)
        return content

    def derived(self, name: str, content: str) -> None:
        """Write a file whose content is derived from other files; replace an outdated one."""
        file = self._path / name
        if not file.exists() or file.read_text() != content:
            self._write(name, content)

    def url_file(self, name: str, content: str, user: str, password: str) -> None:
        """Write a file with a user's URLs; in an existing file replace only the password.

        The operator may have set the hosts and parameters, by options of an earlier run or by hand.
        """
        existing = self.read(name, strip=False) or ""
        self.derived(name, with_password(existing, user, password) or content)

    def replace(self, name: str, content: str) -> None:
        """Replace a secret."""
        self._write(name, content)

    def read(self, name: str, *, strip: bool = True) -> str | None:
        """Return the content of a file, by default without its line end; None if it is missing."""
        file = self._path / name
        if not file.exists():
            return None
        return file.read_text().strip() if strip else file.read_text()

    def remove(self, name: str) -> None:
        """Remove a file."""
        (self._path / name).unlink(missing_ok=True)

    def _write(self, name: str, content: str) -> None:
        file = self._path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        file.write_text(content)
        # World-readable, because containers run as other users than the file's owner.
        file.chmod(0o444)
        self.written.append(name)

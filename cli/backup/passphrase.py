"""The passphrase or key of a backup: from an option, the environment, or a prompt."""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path

from cli.backup.archive import Key
from cli.errors import CommandError
from cli.exit_codes import ExitCode

VARIABLE = "HOGSEND_BACKUP_PASSPHRASE"
MIN_LENGTH = 12
"""Least number of characters of a passphrase."""


def sealing_key(file: Path | None, recipient: str | None) -> Key:
    """Return the key to seal a new backup with.

    Raises:
        CommandError: there is no passphrase, or it is too short.
    """
    if recipient is not None:
        return Key(recipient=recipient)
    passphrase = _passphrase(file, twice=True)
    if len(passphrase) < MIN_LENGTH:
        raise CommandError(
            f"the passphrase is shorter than {MIN_LENGTH} characters",
            "choose a longer one: anyone who has the backup can try out passphrases",
            exit_code=ExitCode.USAGE,
        )
    return Key(passphrase=passphrase)


def opening_key(file: Path | None, identity: Path | None) -> Key:
    """Return the key to open a backup with.

    Raises:
        CommandError: there is no passphrase, or its file cannot be read.
    """
    if identity is None:
        return Key(passphrase=_passphrase(file, twice=False))
    lines = [line for line in _read(identity).splitlines() if not line.startswith("#")]
    return Key(identity="\n".join(lines))


def _passphrase(file: Path | None, *, twice: bool) -> str:
    if file is not None:
        return _read(file).strip()
    if passphrase := os.environ.get(VARIABLE):
        return passphrase
    if not sys.stdin.isatty():
        raise CommandError(
            "the passphrase of the backup is missing",
            f"set {VARIABLE}, or pass --passphrase-file",
            exit_code=ExitCode.USAGE,
        )
    typed = getpass.getpass("passphrase of the backup: ")
    if twice and getpass.getpass("once more: ") != typed:
        raise CommandError(
            "the two passphrases differ",
            "run the command again and type the same passphrase twice",
            exit_code=ExitCode.USAGE,
        )
    return typed


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(
            f"{file} cannot be read", "pass a readable file with the passphrase or key"
        ) from error

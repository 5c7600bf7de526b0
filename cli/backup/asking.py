"""The passphrase or key of a backup: from a flag, the environment, or the terminal."""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path

from cli.backup.whole import Key
from cli.errors import CommandError
from cli.exit_codes import ExitCode

VARIABLE = "HOGSEND_BACKUP_PASSPHRASE"
SHORTEST = 12


def sealing_key(file: Path | None, recipient: str | None) -> Key:
    """Return what a new backup is sealed with.

    Raises:
        CommandError: there is no passphrase, or a short one.
    """
    if recipient is not None:
        return Key(recipient=recipient)
    passphrase = _passphrase(file, twice=True)
    if len(passphrase) < SHORTEST:
        raise CommandError(
            f"the passphrase is shorter than {SHORTEST} characters",
            "choose a longer one: anyone with the backup can try any number of passphrases",
            exit_code=ExitCode.USAGE,
        )
    return Key(passphrase=passphrase)


def opening_key(file: Path | None, identity: Path | None) -> Key:
    """Return what opens a backup.

    Raises:
        CommandError: there is none, or a file that cannot be read.
    """
    if identity is None:
        return Key(passphrase=_passphrase(file, twice=False))
    lines = [line for line in _read(identity).splitlines() if not line.startswith("#")]
    return Key(identity="\n".join(lines))


def _passphrase(file: Path | None, *, twice: bool) -> str:
    if file is not None:
        return _read(file).strip()
    if given := os.environ.get(VARIABLE):
        return given
    if not sys.stdin.isatty():
        raise CommandError(
            "there is no passphrase for the backup",
            f"set {VARIABLE}, or give --passphrase-file",
            exit_code=ExitCode.USAGE,
        )
    typed = getpass.getpass("passphrase of the backup: ")
    if twice and getpass.getpass("once more: ") != typed:
        raise CommandError("the two passphrases differ", "try again", exit_code=ExitCode.USAGE)
    return typed


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(
            f"{file} cannot be read", "give a file with the passphrase or key"
        ) from error

"""Names of a local stack's files in a backup, and the restore of its marker files."""

from __future__ import annotations

from pathlib import Path

from cli.stack import local_sandbox
from services.gateway.webhooks.secret_memory import CLOSED_FILE

SETTINGS = "env"
"""Name of `.env` in a backup."""
SECRETS = "secrets"
MARKS = (f"spool/{CLOSED_FILE}", local_sandbox.MARK)
"""Empty marker files of a data directory: the gateway refuses webhooks while it has no webhook
secret; the stored credential is one of the sandbox."""


def restore_marks(files: Path, home: Path) -> None:
    """Create the marker files of a backup in the data directory `home`."""
    for mark in MARKS:
        if (files / mark).exists():
            (home / mark).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            (home / mark).touch(mode=0o600)

"""`hogsend backup` and `hogsend restore`: the local stack as one encrypted archive."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from cli.arguments import Directory
from cli.backup.archive import create_backup, restore_backup
from cli.backup.external_servers import ExternalServersTarget
from cli.backup.local import LocalSource, LocalTarget
from cli.backup.passphrase import opening_key, sealing_key
from cli.backup.report import report, show_notes, show_progress
from cli.bus_address import discard_stack_url
from cli.flags import Flag
from cli.stack.ports import require_free
from cli.stack.settings import StackSettings


def backup(
    directory: Directory,
    /,
    *,
    recipient: str | None = None,
    passphrase_file: Path | None = None,
    json: Flag = False,
) -> int:
    """Back up streams, PostgreSQL, settings and secrets while the stack runs.

    The backup has everything that was accepted before it started, except webhooks in the gateway's
    spool: the command first waits until the spool is empty, and reports how many webhooks remain
    after 30 seconds. The backup is encrypted with age, for a passphrase or a public key, and only
    its owner can read the files. Nothing is overwritten.

    If NATS_URL (with the operator's user) and DATABASE_URL are set, these servers are backed up.

    Parameters
    ----------
    directory
        New directory to write to.
    recipient
        age public key (age1...) to encrypt for, instead of a passphrase.
    passphrase_file
        File with the passphrase. Default: HOGSEND_BACKUP_PASSPHRASE, else a prompt.
    json
        Print one JSON document on stdout and nothing else.
    """
    discard_stack_url()
    source = LocalSource(StackSettings().hogsend_home)
    key = sealing_key(passphrase_file, recipient)
    with show_progress("saving") as progress:
        manifest = asyncio.run(create_backup(source, directory, key, progress))
    return report(manifest, directory, "saved to", json=json)


def restore(
    directory: Directory,
    /,
    *,
    identity: Path | None = None,
    passphrase_file: Path | None = None,
    json: Flag = False,
) -> int:
    """Restore a backup into a new stack: HOGSEND_HOME must be empty.

    Start the stack with `hogsend up` afterwards. If NATS_URL and DATABASE_URL are set, the backup
    is restored to these servers, which must be empty, and missing secrets are written into
    HOGSEND_HOME.

    Parameters
    ----------
    directory
        Directory that `hogsend backup` wrote.
    identity
        File with the age private key, for a backup that was made with --recipient.
    passphrase_file
        File with the passphrase. Default: HOGSEND_BACKUP_PASSPHRASE, else a prompt.
    json
        Print one JSON document on stdout and nothing else.
    """
    discard_stack_url()
    settings = StackSettings()
    nats_url, database_url = os.environ.get("NATS_URL"), os.environ.get("DATABASE_URL")
    target: LocalTarget | ExternalServersTarget
    if nats_url and database_url:
        target = ExternalServersTarget(settings.hogsend_home, nats_url, database_url)
    else:
        target = LocalTarget(settings.hogsend_home, settings.nats_port)
        # Checked before the port, which a stack that runs here holds: "there is a stack already"
        # is the more helpful error.
        target.require_empty()
        require_free("127.0.0.1", settings.nats_port, "NATS_PORT", "NATS")
    key = opening_key(passphrase_file, identity)
    with show_progress("restoring") as progress:
        manifest = asyncio.run(restore_backup(target, directory, key, progress))
    show_notes(target.notes)
    return report(manifest, directory, "restored from", json=json)

"""`hogsend backup` and `hogsend restore`: the stack of `hogsend up`, as one sealed archive."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from cli.arguments import Directory
from cli.backup.asking import opening_key, sealing_key
from cli.backup.local import LocalSource, LocalTarget, ServersTarget
from cli.backup.report import report, show_notes, shown
from cli.backup.whole import back_up, bring_back
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
    """Back up streams, PostgreSQL, settings and secrets while everything runs.

    Everything that was accepted before it began is in it, but for webhooks that wait in the spool
    of a gateway: it waits for these, and says how many are left. It is sealed in the format of age,
    for a passphrase or a public key; only its owner can read the files. It overwrites nothing. With
    NATS_URL, as the operator, and DATABASE_URL it saves from these servers.

    Parameters
    ----------
    directory
        New directory to write to.
    recipient
        age public key (age1...) to seal it for, instead of a passphrase.
    passphrase_file
        File with the passphrase. Without it, it is HOGSEND_BACKUP_PASSPHRASE, or asked for.
    json
        Print one JSON document on stdout and nothing else.
    """
    source = LocalSource(StackSettings().hogsend_home)
    key = sealing_key(passphrase_file, recipient)
    with shown("saving") as progress:
        manifest = asyncio.run(back_up(source, directory, key, progress))
    return report(manifest, directory, "saved to", json=json)


def restore(
    directory: Directory,
    /,
    *,
    identity: Path | None = None,
    passphrase_file: Path | None = None,
    json: Flag = False,
) -> int:
    """Restore a backup where there is no stack yet.

    `hogsend up` starts it afterwards. With NATS_URL and DATABASE_URL it fills these servers, which
    must be empty, and puts secrets that are missing into HOGSEND_HOME.

    Parameters
    ----------
    directory
        Directory that `hogsend backup` wrote.
    identity
        File with the age private key to open it with, instead of a passphrase.
    passphrase_file
        File with the passphrase. Without it, it is HOGSEND_BACKUP_PASSPHRASE, or asked for.
    json
        Print one JSON document on stdout and nothing else.
    """
    settings = StackSettings()
    nats_url, database_url = os.environ.get("NATS_URL"), os.environ.get("DATABASE_URL")
    target: LocalTarget | ServersTarget
    if nats_url and database_url:
        target = ServersTarget(settings.hogsend_home, nats_url, database_url)
    else:
        target = LocalTarget(settings.hogsend_home, settings.nats_port)
        # First: a stack that runs here has the port.
        target.require_empty()
        require_free("127.0.0.1", settings.nats_port, "NATS_PORT", "NATS")
    key = opening_key(passphrase_file, identity)
    with shown("restoring") as progress:
        manifest = asyncio.run(bring_back(target, directory, key, progress))
    show_notes(target.notes)
    return report(manifest, directory, "restored from", json=json)

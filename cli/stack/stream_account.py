"""Which NATS account the streams on disk belong to, and their move out of the shared one.

Up to 0.1.0 every user was in NATS' global account, and so were the streams. They are a directory by
the account's name, which nats-server finds under its new name when it starts.
"""

from __future__ import annotations

from pathlib import Path

from cli.errors import CommandError
from hogsend.contract.accounts import GLOBAL, OWN


def adopt(store: Path) -> None:
    """Give the streams in a server's `store_dir` to our account; no server runs on it.

    Raises:
        CommandError: both accounts have streams.
    """
    shared, own = (store / "jetstream" / account for account in (GLOBAL, OWN))
    if not shared.exists():
        return
    if own.exists():
        raise CommandError(
            f"there are streams of two versions in {store / 'jetstream'}: {GLOBAL} and {OWN}",
            f"{GLOBAL} is of the version before: move the one that you do not need to another "
            "directory, and start again",
        )
    shared.rename(own)

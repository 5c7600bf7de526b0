"""The data directory of the local stack: one stack at a time, and secrets that stay the same."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from cli.errors import CommandError
from cli.stack.data_directory import DataDirectory, write_private


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_second_stack_cannot_use_the_directory_before_the_first_has_ended(
    tmp_path: Path,
) -> None:
    first, second = DataDirectory(tmp_path / "home"), DataDirectory(tmp_path / "home")
    with first.locked():
        with (
            pytest.raises(CommandError, match="another stack is using") as refused,
            second.locked(),
        ):
            pass
        assert "HOGSEND_HOME" in refused.value.fix
        with DataDirectory(tmp_path / "other").locked():
            pass
    with second.locked():
        pass


@pytest.mark.parametrize(("user", "mode"), [(0, 0o711), (1000, 0o700)])
def test_the_directory_and_the_logs_are_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: int, mode: int
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    (tmp_path / "home" / "logs").mkdir(parents=True, mode=0o755)
    home = DataDirectory(tmp_path / "home")
    assert (mode_of(home.path), mode_of(home.logs)) == (mode, 0o700)


def test_a_directory_that_cannot_be_written_is_an_error_with_a_fix(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CommandError, match="is not writable") as refused:
        DataDirectory(tmp_path / "file" / "home")
    assert "HOGSEND_HOME" in refused.value.fix


def test_a_secret_is_generated_once_and_private(tmp_path: Path) -> None:
    home = DataDirectory(tmp_path / "home")
    generated = home.secret("one")
    assert len(generated) >= 43, "32 random bytes"
    assert DataDirectory(tmp_path / "home").secret("one") == generated
    assert home.secret("two") != generated
    assert mode_of(home.secret_file("one")) == 0o600
    assert mode_of(home.path / "secrets") == 0o700


def test_a_private_file_is_on_disk_before_it_replaces_the_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "key"
    write_private(file, "earlier")
    synced: list[tuple[str, str]] = []

    def record_sync(descriptor: int) -> None:
        opened = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced.append((opened.read_text(), file.read_text()))

    monkeypatch.setattr(os, "fsync", record_sync)
    write_private(file, "later")
    assert (synced, file.read_text()) == ([("later", "earlier")], "later")
    assert mode_of(file) == 0o600

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_private(file, "never")
    assert file.read_text() == "later"

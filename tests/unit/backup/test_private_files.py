"""Files of a restore are private to their owner from the moment they are created."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cli.backup.external_servers import ExternalServersTarget
from cli.backup.local import LocalSource, LocalTarget
from cli.deployment.backup import ComposeTarget
from cli.stack.data_directory import DataDirectory, write_private

GROUP_AND_OTHERS = 0o077


@pytest.fixture(autouse=True)
def prevent_chmod(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make `chmod` do nothing and umask 0, so that each file keeps the mode it was created with."""
    monkeypatch.setattr(os, "chmod", lambda *_args, **_kwargs: None)
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Settings and secrets of a backup."""
    secrets = tmp_path / "files" / "secrets"
    secrets.mkdir(parents=True, mode=0o700)
    write_private(secrets / "admin-api-key", "key")
    write_private(tmp_path / "files" / "env", "ADMIN_API_KEY=key")
    (tmp_path / "files" / "spool").mkdir()
    (tmp_path / "files" / "spool" / "webhook-closed").touch()
    return tmp_path / "files"


def is_private(file: Path) -> bool:
    return file.stat().st_mode & GROUP_AND_OTHERS == 0


def test_a_restored_local_stack_is_private(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "here"
    directory.mkdir()
    monkeypatch.chdir(directory)
    target = LocalTarget(tmp_path / "home", 1)
    target.restore_files(files)
    assert is_private(directory / ".env")
    assert is_private(tmp_path / "home.restoring" / "secrets")
    assert is_private(tmp_path / "home.restoring" / "spool" / "webhook-closed")
    (directory / ".env").write_text("OTHER=1")
    target.require_empty()
    target.restore_files(files)
    assert is_private(tmp_path / "home.restoring" / "env.restored")


def test_restored_secrets_for_external_servers_are_private(files: Path, tmp_path: Path) -> None:
    ExternalServersTarget(tmp_path / "home", "", "").restore_files(files)
    assert is_private(tmp_path / "home" / "secrets" / "admin-api-key")


def test_a_restored_deployment_is_private(files: Path, tmp_path: Path) -> None:
    compose: Any = SimpleNamespace(
        secrets=tmp_path / "deploy" / "secrets",
        env_file=SimpleNamespace(path=tmp_path / ".env"),
    )
    target = ComposeTarget.__new__(ComposeTarget)
    target._compose = compose
    target.restore_files(files)
    assert is_private(tmp_path / ".env")
    assert is_private(compose.secrets)


def test_the_lock_file_is_private(tmp_path: Path) -> None:
    with DataDirectory(tmp_path / "home").locked():
        assert is_private(tmp_path / "home" / "lock")


MARKS = ("spool/webhook-closed", "sandbox")


@pytest.mark.parametrize("mark", MARKS)
def test_marks_of_the_data_directory_are_in_a_backup(
    mark: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home" / "secrets").mkdir(parents=True)
    (tmp_path / "home" / "spool").mkdir()
    source = LocalSource(tmp_path / "home")
    assert source.files() == {}
    (tmp_path / "home" / mark).touch()
    assert source.files() == {mark: tmp_path / "home" / mark}


@pytest.mark.parametrize("mark", MARKS)
def test_marks_of_the_data_directory_are_restored(
    mark: str, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for saved in MARKS:
        (files / saved).unlink(missing_ok=True)
    (files / mark).touch()
    LocalTarget(tmp_path / "local", 1).restore_files(files)
    ExternalServersTarget(tmp_path / "servers", "", "").restore_files(files)
    for home in (tmp_path / "local.restoring", tmp_path / "servers"):
        restored = [saved for saved in MARKS if (home / saved).exists()]
        assert restored == [mark], home
        assert is_private(home / mark)

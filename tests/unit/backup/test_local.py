"""The target of a local restore is checked before anything is unpacked."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from cli.backup.local import LocalSource, LocalTarget
from cli.commands.backup import restore
from cli.errors import CommandError


def test_an_empty_directory_is_accepted_and_one_with_a_stack_refused(tmp_path: Path) -> None:
    home = tmp_path / "home"
    LocalTarget(home, 1).require_empty()
    home.mkdir()
    LocalTarget(home, 1).require_empty()
    (home / "secrets").mkdir()
    with pytest.raises(CommandError, match="there is a stack"):
        LocalTarget(home, 1).require_empty()


def test_a_file_is_refused_as_the_directory_of_a_stack(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CommandError, match="is not a directory"):
        LocalTarget(tmp_path / "file", 1).require_empty()


def test_an_existing_stack_is_reported_rather_than_the_port_it_uses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nats:
        for name in ("NATS_URL", "DATABASE_URL"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("NATS_PORT", str(nats.getsockname()[1]))
        monkeypatch.setenv("HOGSEND_HOME", str(tmp_path / "home"))
        with pytest.raises(CommandError, match="for NATS is in use"):
            restore(tmp_path / "backup")
        (tmp_path / "home" / "secrets").mkdir(parents=True)
        with pytest.raises(CommandError, match="there is a stack"):
            restore(tmp_path / "backup")


def test_a_mount_point_is_refused_before_the_restore(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setattr(Path, "is_mount", lambda path: path == home)
    with pytest.raises(CommandError, match="is a mount point") as refused:
        LocalTarget(home, 1).require_empty()
    assert "in it" in refused.value.fix
    LocalTarget(home / "hogsend", 1).require_empty()


def backup_files(directory: Path, settings: str) -> Path:
    """Write the files of a backup with these settings, and return their directory."""
    (directory / "files" / "secrets").mkdir(parents=True)
    (directory / "files" / "env").write_text(settings)
    return directory / "files"


@pytest.fixture
def current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory: without a stack, to restore one to."""
    directory = tmp_path / "here"
    directory.mkdir()
    monkeypatch.chdir(directory)
    for name in ("HOGSEND_HOME", "NATS_URL", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    return directory


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ("HOGSEND_HOME=data\n", "HOGSEND_HOME"),
        ("NATS_URL=nats://bus.example\nDATABASE_URL=postgresql://u:p@db.example\n", "NATS_URL"),
    ],
)
def test_settings_with_which_up_would_not_use_the_restored_stack_are_refused(
    current_directory: Path, settings: str, name: str
) -> None:
    files = backup_files(current_directory.parent, settings)
    with pytest.raises(CommandError, match=f"env of the backup sets {name}"):
        LocalTarget(Path(".hogsend"), 1).restore_files(files)
    assert list(current_directory.iterdir()) == []


def test_secrets_settings_and_marks_are_restored(current_directory: Path) -> None:
    files = backup_files(current_directory.parent, "LOG_LEVEL=debug\n")
    (files / "secrets" / "nats").mkdir()
    (files / "secrets" / "nats" / "word").write_text("secret")
    target = LocalTarget(Path("data"), 1)
    target.restore_files(files)
    assert (Path("data.restoring") / "secrets" / "nats" / "word").read_text() == "secret"
    assert Path(".env").read_text() == "LOG_LEVEL=debug\n"
    target.require_empty()
    target.restore_files(files)
    assert target.notes == [], "the two .env are the same"
    Path(".env").write_text("LOG_LEVEL=info\n")
    target.require_empty()
    target.restore_files(files)
    assert (Path("data.restoring") / "env.restored").read_text() == "LOG_LEVEL=debug\n"
    assert Path(".env").read_text() == "LOG_LEVEL=info\n"
    assert [str(Path("data", "env.restored")) in note for note in target.notes] == [True]


def test_a_backup_without_settings_restores_none(current_directory: Path) -> None:
    files = backup_files(current_directory.parent, "")
    (files / "env").unlink()
    LocalTarget(Path("data"), 1).restore_files(files)
    assert sorted(path.name for path in current_directory.iterdir()) == ["data.restoring"]


@pytest.mark.parametrize(
    ("name", "other"), [("NATS_URL", "DATABASE_URL"), ("DATABASE_URL", "NATS_URL")]
)
def test_one_external_server_without_the_other_is_refused(
    current_directory: Path, monkeypatch: pytest.MonkeyPatch, name: str, other: str
) -> None:
    monkeypatch.setenv(name, "nats://bus.example")
    with pytest.raises(CommandError, match=f"{name} is set, but {other} is not"):
        LocalTarget(Path("data"), 1).require_empty()


def test_a_directory_without_a_stack_cannot_be_backed_up(current_directory: Path) -> None:
    with pytest.raises(CommandError, match="there is no stack"):
        LocalSource(current_directory)


def test_a_backup_has_the_secrets_and_settings_of_a_stack(current_directory: Path) -> None:
    secret = current_directory / "data" / "secrets" / "nats" / "word"
    secret.parent.mkdir(parents=True)
    secret.touch()
    assert LocalSource(Path("data")).files() == {"secrets/nats/word": secret}
    Path(".env").touch()
    assert LocalSource(Path("data")).files() == {
        "secrets/nats/word": secret,
        "env": Path(".env"),
    }


def test_settings_with_which_up_uses_the_restored_stack_are_accepted(
    current_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = backup_files(current_directory.parent, "HOGSEND_HOME=data\n")
    LocalTarget(Path("data"), 1).restore_files(files)
    assert (current_directory / ".env").read_text() == "HOGSEND_HOME=data\n"
    (current_directory / ".env").unlink()
    # `hogsend up` reads a variable of the environment first.
    monkeypatch.setenv("HOGSEND_HOME", "other")
    LocalTarget(Path("other"), 1).restore_files(files)
    (current_directory / ".env").write_text("LOG_LEVEL=debug\n")
    monkeypatch.delenv("HOGSEND_HOME")
    LocalTarget(Path("third"), 1).restore_files(files)
    assert (current_directory / ".env").read_text() == "LOG_LEVEL=debug\n"

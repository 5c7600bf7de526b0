"""A backup of a deployment is not restored over another deployment of the same name."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.deployment.backup import SETTINGS, ComposeTarget
from cli.deployment.compose import COMMAND, Compose
from cli.errors import CommandError

STOPPED_DEPLOYMENT = """#!/bin/sh
case "$*" in
  "--project-name live "*"--status running"*) ;;
  "--project-name live "*) echo nats ;;
esac
"""


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory without a deployment, on an engine where the deployment `live` is stopped."""
    command = tmp_path / "compose"
    command.write_text(STOPPED_DEPLOYMENT)
    command.chmod(0o755)
    monkeypatch.setenv(COMMAND, str(command))
    monkeypatch.delenv("COMPOSE_PROJECT_NAME", raising=False)
    directory = tmp_path / "elsewhere"
    directory.mkdir()
    (directory / "compose.yaml").touch()
    return directory


def backup_files(directory: Path, settings: str) -> Path:
    """Write the files of a backup with these settings, and return their directory."""
    files = directory.parent / "files"
    files.mkdir()
    (files / SETTINGS).write_text(settings)
    return files


def test_a_project_name_in_the_backup_that_another_deployment_has_is_refused(
    directory: Path,
) -> None:
    target = ComposeTarget(Compose(directory))
    target.require_empty()
    with pytest.raises(CommandError, match=r"another deployment has the name live, .*nats"):
        target.restore_files(backup_files(directory, "COMPOSE_PROJECT_NAME='live'\n"))
    assert (directory / ".env").read_text() == ""
    assert not (directory / "deploy").exists()


def test_a_repeated_restore_continues_under_the_project_name_in_env(directory: Path) -> None:
    (directory / ".env").write_text("COMPOSE_PROJECT_NAME=live\n")
    files = backup_files(directory, "COMPOSE_PROJECT_NAME=live\n")
    ComposeTarget(Compose(directory)).restore_files(files)
    assert (directory / "deploy" / "secrets").is_dir()


@pytest.mark.parametrize("settings", ["COMPOSE_PROJECT_NAME=other\n", "LOG_LEVEL=debug\n"])
def test_a_backup_with_another_project_name_or_none_is_restored(
    directory: Path, settings: str
) -> None:
    ComposeTarget(Compose(directory)).restore_files(backup_files(directory, settings))
    assert (directory / ".env").read_text() == settings


def test_a_project_name_in_the_environment_takes_precedence_as_in_compose(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPOSE_PROJECT_NAME", "unused")
    target = ComposeTarget(Compose(directory))
    target.require_empty()
    target.restore_files(backup_files(directory, "COMPOSE_PROJECT_NAME=live\n"))
    assert (directory / ".env").read_text() == "COMPOSE_PROJECT_NAME=live\n"

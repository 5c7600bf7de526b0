"""A backup of a deployment is not restored over another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.deployment.backup import SETTINGS, ComposeTarget
from cli.deployment.compose import COMMAND, Compose
from cli.errors import CommandError

STOPPED_BESIDE = """#!/bin/sh
case "$*" in
  "--project-name live "*"--status running"*) ;;
  "--project-name live "*) echo nats ;;
esac
"""


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory without a deployment, on an engine where the deployment `live` is stopped."""
    command = tmp_path / "compose"
    command.write_text(STOPPED_BESIDE)
    command.chmod(0o755)
    monkeypatch.setenv(COMMAND, str(command))
    monkeypatch.delenv("COMPOSE_PROJECT_NAME", raising=False)
    made = tmp_path / "elsewhere"
    made.mkdir()
    (made / "compose.yaml").touch()
    return made


def saved(directory: Path, settings: str) -> Path:
    """The files of a backup."""
    files = directory.parent / "files"
    files.mkdir()
    (files / SETTINGS).write_text(settings)
    return files


def test_a_name_in_env_that_another_deployment_has_is_refused(directory: Path) -> None:
    target = ComposeTarget(Compose(directory))
    target.require_empty()
    with pytest.raises(CommandError, match=r"another deployment has the name live, .*nats"):
        target.restore_files(saved(directory, "COMPOSE_PROJECT_NAME='live'\n"))
    assert (directory / ".env").read_text() == ""
    assert not (directory / "deploy").exists()


def test_a_restore_that_was_interrupted_goes_on_under_its_name(directory: Path) -> None:
    (directory / ".env").write_text("COMPOSE_PROJECT_NAME=live\n")
    files = saved(directory, "COMPOSE_PROJECT_NAME=live\n")
    ComposeTarget(Compose(directory)).restore_files(files)
    assert (directory / "deploy" / "secrets").is_dir()


@pytest.mark.parametrize("settings", ["COMPOSE_PROJECT_NAME=other\n", "LOG_LEVEL=debug\n"])
def test_another_name_is_not(directory: Path, settings: str) -> None:
    ComposeTarget(Compose(directory)).restore_files(saved(directory, settings))
    assert (directory / ".env").read_text() == settings


def test_the_name_in_the_environment_holds_as_it_does_for_compose(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPOSE_PROJECT_NAME", "beside")
    target = ComposeTarget(Compose(directory))
    target.require_empty()
    target.restore_files(saved(directory, "COMPOSE_PROJECT_NAME=live\n"))
    assert (directory / ".env").read_text() == "COMPOSE_PROJECT_NAME=live\n"

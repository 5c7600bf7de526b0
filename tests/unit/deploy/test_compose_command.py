"""How failures and versions of the Compose command are handled."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cli.deployment.compose import COMMAND, Compose, deployment_in
from cli.deployment.layout_move import Move
from cli.errors import CommandError
from cli.exit_codes import ExitCode
from cli.main import run


def compose(directory: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Compose:
    """A deployment whose Compose is a shell script."""
    (directory / "compose.yaml").touch()
    command = directory / "compose"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    monkeypatch.setenv(COMMAND, str(command))
    return Compose(directory)


@pytest.mark.parametrize("script", ["exit 130", "kill -INT $$"])
def test_ctrl_c_that_compose_was_told_first_is_not_a_failure_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    async def move() -> None:
        compose(tmp_path, monkeypatch, script).run("up", "-d")

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(move())


def test_what_compose_says_of_a_failure_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = compose(tmp_path, monkeypatch, "echo no such service >&2; exit 1")
    with pytest.raises(CommandError, match=r"(?s)up -d failed:.*no such service"):
        failing.run("up", "-d")


@pytest.mark.parametrize(
    ("said", "fix"),
    [
        ("no such service", "fix the problem that Compose reports"),
        ('service "settings" didn\'t complete successfully: exit 2', "compose logs settings"),
    ],
)
def test_the_log_of_wrong_settings_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, fix: str
) -> None:
    """Compose itself reports no reason."""
    (tmp_path / "said").write_text(said)
    failing = compose(tmp_path, monkeypatch, "cat said >&2; exit 1")
    with pytest.raises(CommandError) as raised:
        failing.run("up", "-d")
    assert fix in raised.value.fix


@pytest.mark.parametrize(
    "said", ["podman-compose version 1.6.0", "docker-compose version 1.29.2, build unknown", ""]
)
def test_what_is_not_compose_or_too_old_is_named_and_asked_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    """podman-compose's output was misread as a mark of data, with `down --volumes` as fix."""
    compose(tmp_path, monkeypatch, f'[ "$1" = version ] && echo "{said}" || touch asked')
    assert run(["compose", "layout", "cluster", "--deployment", str(tmp_path)]) == ExitCode.FAILED
    assert not (tmp_path / "asked").exists()
    with pytest.raises(CommandError, match=rf"is not Compose 2 or newer: {said}") as raised:
        deployment_in(tmp_path)
    assert "DOCKER_HOST" in raised.value.fix


@pytest.mark.parametrize("version", ["v5.6.1", "2.26.1-4", "dev"])
def test_compose_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    said = f"Docker Compose version {version}"
    compose(tmp_path, monkeypatch, f"echo {said}")
    assert deployment_in(tmp_path).run("version") == said


@pytest.mark.parametrize(
    ("mark", "fix"),
    [("a move that has not ended", "down --volumes"), ("something else", "nothing was changed")],
)
def test_volumes_are_only_to_be_emptied_where_a_move_is_in_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mark: str, fix: str
) -> None:
    move = Move(compose(tmp_path, monkeypatch, f"echo {mark}"), lambda _: None)
    with pytest.raises(CommandError) as raised:
        move._mark_of("nats")
    assert fix in raised.value.fix

"""How the outcomes of the `docker compose` command are interpreted."""

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
    """Return a deployment whose Compose command is a shell script."""
    (directory / "compose.yaml").touch()
    command = directory / "compose"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    monkeypatch.setenv(COMMAND, str(command))
    return Compose(directory)


@pytest.mark.parametrize("script", ["exit 130", "kill -INT $$"])
def test_ctrl_c_that_compose_receives_is_an_interrupt_and_no_failure_of_compose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    async def move() -> None:
        compose(tmp_path, monkeypatch, script).run("up", "-d")

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(move())


def test_a_failure_is_shown_with_the_output_of_compose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = compose(tmp_path, monkeypatch, "echo no such service >&2; exit 1")
    with pytest.raises(CommandError, match=r"(?s)up -d failed:.*no such service"):
        failing.run("up", "-d")


@pytest.mark.parametrize(
    ("output", "fix"),
    [
        ("no such service", "fix the problem that Compose reports"),
        ('service "settings" didn\'t complete successfully: exit 2', "compose logs settings"),
    ],
)
def test_a_failed_check_of_the_settings_points_to_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, fix: str
) -> None:
    """Compose reports only that the `settings` container failed; its log has the reason."""
    (tmp_path / "output").write_text(output)
    failing = compose(tmp_path, monkeypatch, "cat output >&2; exit 1")
    with pytest.raises(CommandError) as raised:
        failing.run("up", "-d")
    assert fix in raised.value.fix


@pytest.mark.parametrize(
    "output", ["podman-compose version 1.6.0", "docker-compose version 1.29.2, build unknown", ""]
)
def test_another_program_or_an_old_compose_is_refused_by_name_and_runs_no_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    """Its output must not be read as the mark of a data directory: the fix would delete volumes."""
    compose(tmp_path, monkeypatch, f'[ "$1" = version ] && echo "{output}" || touch command-ran')
    assert run(["compose", "layout", "cluster", "--deployment", str(tmp_path)]) == ExitCode.FAILED
    assert not (tmp_path / "command-ran").exists()
    with pytest.raises(CommandError, match=rf"is not Compose 2 or newer: {output}") as raised:
        deployment_in(tmp_path)
    assert "DOCKER_HOST" in raised.value.fix


@pytest.mark.parametrize("version", ["v5.6.1", "2.26.1-4", "dev"])
def test_compose_2_and_newer_are_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    output = f"Docker Compose version {version}"
    compose(tmp_path, monkeypatch, f"echo {output}")
    assert deployment_in(tmp_path).run("version") == output


@pytest.mark.parametrize(
    ("mark", "fix"),
    [("a move that has not ended", "down --volumes"), ("something else", "nothing was changed")],
)
def test_emptying_volumes_is_advised_only_for_an_unfinished_move(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mark: str, fix: str
) -> None:
    move = Move(compose(tmp_path, monkeypatch, f"echo {mark}"), lambda _: None)
    with pytest.raises(CommandError) as raised:
        move._mark_of("nats")
    assert fix in raised.value.fix

"""What the command of Compose ends with, and what is made of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cli.deployment.compose import COMMAND, Compose
from cli.errors import CommandError


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
        ("no such service", "do what it says"),
        ('service "settings" didn\'t complete successfully: exit 2', "compose logs settings"),
    ],
)
def test_the_log_of_wrong_settings_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, fix: str
) -> None:
    """Compose itself says no more than that they are wrong."""
    (tmp_path / "said").write_text(said)
    failing = compose(tmp_path, monkeypatch, "cat said >&2; exit 1")
    with pytest.raises(CommandError) as raised:
        failing.run("up", "-d")
    assert fix in raised.value.fix

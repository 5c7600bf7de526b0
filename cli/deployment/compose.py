"""Runs `docker compose` in the directory of `compose.yaml`."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from cli import environment
from cli.deployment.env_file import EnvFile
from cli.errors import CommandError
from cli.exit_codes import ExitCode
from hogsend.urls import reached_at

COMMAND = "HOGSEND_COMPOSE"
"""Environment variable with the command to use, for example `docker-compose`."""
_COMMAND = "docker compose"
_SETTINGS_REFUSED = 'service "settings" didn\'t complete successfully'
"""What Compose prints where .env is wrong; why, only the log of that service says."""
_AS_IT_SAYS = "do what it says"
_NAMED = "Docker Compose version"
"""What Compose 2 and newer call themselves; a build of one's own has no number behind it."""
_INTERRUPTED = (ExitCode.INTERRUPTED, -signal.SIGINT)
"""What a command ends with after Ctrl-C, which it may handle or not."""


class Compose:
    """One deployment: its directory, and its engine by way of Compose."""

    def __init__(self, directory: Path) -> None:
        """Use the deployment in `directory`.

        Raises:
            CommandError: there is none.
        """
        self.directory = directory.resolve()
        self.env_file = EnvFile(self.directory / ".env")
        self.secrets = self.directory / "deploy" / "secrets"
        if not (self.directory / "compose.yaml").is_file():
            raise CommandError(
                f"there is no compose.yaml in {self.directory}",
                "run it in the directory of Hogsend, or give that as --deployment",
            )

    def run(
        self,
        *arguments: str,
        extra: Mapping[str, str] | None = None,
        stdin: IO[bytes] | None = None,
        stdout: IO[bytes] | None = None,
    ) -> str:
        """Run a command of Compose and return what it prints.

        Args:
            arguments: for example `up`, `-d`.
            extra: variables that win over `.env`, for this command.
            stdin: file to read from.
            stdout: file to write to; what it prints is returned without one.

        Raises:
            CommandError: it fails, or there is no such command.
            KeyboardInterrupt: Ctrl-C has ended it.
        """
        # Compose refuses to do anything without it.
        self.env_file.create()
        command = [*shlex.split(os.environ.get(COMMAND, _COMMAND)), *arguments]
        try:
            done = subprocess.run(
                command,
                cwd=self.directory,
                # Compose reads .env itself.
                env={**environment.without_file(), **(extra or {})},
                stdin=stdin or subprocess.DEVNULL,
                stdout=stdout or subprocess.PIPE,
                stderr=subprocess.PIPE,
                check=False,
            )
        except OSError as error:
            raise CommandError(
                f"{command[0]} cannot be run ({error.strerror})",
                f"install Docker with its Compose plugin, or set {COMMAND}",
            ) from error
        if done.returncode in _INTERRUPTED:
            # Ctrl-C, which Compose was told before us.
            raise KeyboardInterrupt
        if done.returncode:
            lines = done.stderr.decode(errors="replace").strip().splitlines()[-8:]
            said = "\n  ".join([f"{' '.join(command)} failed:", *lines])
            refused = _SETTINGS_REFUSED in said
            fix = "change .env as `docker compose logs settings` says" if refused else _AS_IT_SAYS
            raise CommandError(said, f"{fix}, then run this command again")
        return (done.stdout or b"").decode(errors="replace").strip()

    def require_version(self) -> None:
        """Check that the command is Compose, and new enough.

        Raises:
            CommandError: it is older, or another program that reads the same files, such as
                podman-compose: what that prints would be taken for what Compose says.
        """
        said = self.run("version")
        if _NAMED not in said:
            command = os.environ.get(COMMAND, _COMMAND)
            first = next(iter(said.splitlines()), "it names no version")
            raise CommandError(
                f"{command} is not Compose 2 or newer: {first}",
                f"set {COMMAND} to Docker's Compose; it works with podman, too: DOCKER_HOST is "
                "podman's socket then",
            )

    def services(self, *profiles: str) -> list[str]:
        """Names of the services, those of profiles included."""
        chosen = [word for profile in profiles for word in ("--profile", profile)]
        return self.run(*chosen, "config", "--services").split()

    def published(self, service: str, port: int) -> str:
        """Where a container's port is reached from this machine, as `host:port`.

        Raises:
            CommandError: the service does not run, or publishes no such port.
        """
        found = self.run("--profile", "cluster", "port", service, str(port))
        host, _, number = found.rpartition(":")
        return reached_at(host.strip("[]"), number)

    def running(self) -> list[str]:
        """Names of the services that run."""
        return self.run("--profile", "cluster", "ps", "--services", "--status", "running").split()

    def services_of(self, project: str) -> list[str]:
        """Names of the services that a deployment has containers of, running or not.

        Args:
            project: Compose's name of the deployment.
        """
        asked = ("--profile", "cluster", "ps", "--all", "--services")
        return self.run("--project-name", project, *asked).split()


def deployment_in(directory: Path) -> Compose:
    """Use the deployment in `directory`.

    Raises:
        CommandError: there is none, or no Compose that can do what is wanted of it.
    """
    found = Compose(directory)
    found.require_version()
    return found

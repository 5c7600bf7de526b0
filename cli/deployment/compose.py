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
"""Environment variable with the Compose command to use, for example `docker-compose`."""
_COMMAND = "docker compose"
_SETTINGS_REFUSED = 'service "settings" didn\'t complete successfully'
"""Output of Compose for an invalid .env. Only the log of the service `settings` has the reason."""
_VERSION_LINE = "Docker Compose version"
"""First words of `version` of Compose 2 and newer. Custom builds print no number after them."""
_INTERRUPTED = (ExitCode.INTERRUPTED, -signal.SIGINT)
"""Return codes after Ctrl-C, of a command that handles SIGINT and of one that does not."""


class Compose:
    """One deployment: its directory, and commands of Compose on it."""

    def __init__(self, directory: Path) -> None:
        """Use the deployment in `directory`.

        Raises:
            CommandError: there is no compose.yaml in it.
        """
        self.directory = directory.resolve()
        self.env_file = EnvFile(self.directory / ".env")
        self.secrets = self.directory / "deploy" / "secrets"
        if not (self.directory / "compose.yaml").is_file():
            raise CommandError(
                f"there is no compose.yaml in {self.directory}",
                "run the command in Hogsend's directory, or pass that directory as --deployment",
            )

    def run(
        self,
        *arguments: str,
        extra: Mapping[str, str] | None = None,
        stdin: IO[bytes] | None = None,
        stdout: IO[bytes] | None = None,
    ) -> str:
        """Run a command of Compose and return its output.

        Args:
            arguments: for example `up`, `-d`.
            extra: environment variables for this command, which take precedence over `.env`.
            stdin: file to read from.
            stdout: file to write the output to; the returned output is then empty.

        Raises:
            CommandError: the command fails, or Compose is not installed.
            KeyboardInterrupt: Ctrl-C ended the command.
        """
        # Compose fails without the file.
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
            # Compose received the Ctrl-C before this process did.
            raise KeyboardInterrupt
        if done.returncode:
            lines = done.stderr.decode(errors="replace").strip().splitlines()[-8:]
            problem = "\n  ".join([f"{' '.join(command)} failed:", *lines])
            fix = (
                "correct .env: `docker compose logs settings` has the problem"
                if _SETTINGS_REFUSED in problem
                else "fix the problem that Compose reports"
            )
            raise CommandError(problem, f"{fix}; then run this command again")
        return (done.stdout or b"").decode(errors="replace").strip()

    def require_version(self) -> None:
        """Check that the command is Docker's Compose 2 or newer.

        Raises:
            CommandError: it is older, or another program for the same files such as
                podman-compose, whose output this module would misread.
        """
        output = self.run("version")
        if _VERSION_LINE not in output:
            command = os.environ.get(COMMAND, _COMMAND)
            first_line = next(iter(output.splitlines()), "it prints no version")
            raise CommandError(
                f"{command} is not Compose 2 or newer: {first_line}",
                f"set {COMMAND} to Docker's Compose. To use it with podman, set DOCKER_HOST to "
                "podman's socket",
            )

    def services(self, *profiles: str) -> list[str]:
        """Return the names of the services, including those of `profiles`."""
        options = [word for profile in profiles for word in ("--profile", profile)]
        return self.run(*options, "config", "--services").split()

    def published(self, service: str, port: int) -> str:
        """Return the address of a container's port on this machine, as `host:port`.

        Raises:
            CommandError: the service does not run, or does not publish the port.
        """
        address = self.run("--profile", "cluster", "port", service, str(port))
        host, _, number = address.rpartition(":")
        return reached_at(host.strip("[]"), number)

    def running(self) -> list[str]:
        """Return the names of the running services."""
        return self.run("--profile", "cluster", "ps", "--services", "--status", "running").split()

    def services_of(self, project: str) -> list[str]:
        """Return the names of the services that have containers in a deployment, running or not.

        Args:
            project: Compose's name of the deployment.
        """
        arguments = ("--profile", "cluster", "ps", "--all", "--services")
        return self.run("--project-name", project, *arguments).split()


def deployment_in(directory: Path) -> Compose:
    """Return the deployment in `directory`.

    Raises:
        CommandError: there is no compose.yaml in it, or Compose is missing or too old.
    """
    deployment = Compose(directory)
    deployment.require_version()
    return deployment

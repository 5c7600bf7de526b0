"""Runs the commands of a document in a copy of this checkout, on a container engine.

`run_document` and `run_restore` run the commands of docs/deploy.md, `run_rotation` those of
docs/rotation.md. `run_upgrade` upgrades from an earlier version, `run_kills` kills and replaces
each container, and `run_pods` runs the pods of deploy/kubernetes. `run_observe` checks Prometheus,
Grafana and Jaeger. All of them need an engine (DOCKER_HOST) that has the images of
`tests/engine/stand_ins.sh`, or can pull the real ones.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import msgspec

ROOT = Path(__file__).parents[2]
GATEWAY = "http://127.0.0.1:3002"
GATEWAY_2 = "http://127.0.0.1:3003"
HEALTHY_SECONDS = 300
RATE = 10
"""Webhooks per second."""
SECRET = re.compile(r"\bs[0-9a-f]{48}\b|(?<=_SECRET=)\S+")
"""Secrets as `generate_secrets.py` generates them, and those in `.env`."""
SKIPPED_COMMANDS = {
    # `prepare` replaces the installation; the copy is not a git repository.
    "make install",
    "git fetch && git checkout v0.2.0",
}


class Block(msgspec.Struct, frozen=True):
    """One block of commands in a document."""

    section: str
    commands: tuple[str, ...]


def blocks(text: str) -> list[Block]:
    """Return the console blocks of a document, each with the heading above it."""
    result, section, commands = list[Block](), "", None
    for line in text.splitlines():
        if heading := re.match(r"#+ (.*)", line) if commands is None else None:
            section = heading[1]
        elif line.startswith("```console"):
            commands = list[str]()
        elif line.startswith("```") and commands is not None:
            result.append(Block(section, tuple(commands)))
            commands = None
        elif commands is not None and line.startswith("$ "):
            commands.append(re.sub(r"\s{2,}#.*", "", line[2:]))
    return result


def sections(text: str) -> Mapping[str, list[Block]]:
    """Return the document's blocks by the heading above them."""
    by_section: dict[str, list[Block]] = {}
    for block in blocks(text):
        by_section.setdefault(block.section, []).append(block)
    return by_section


class Checkout:
    """A copy of this checkout in a work directory, with a deployment that runs from it."""

    def __init__(self, work: Path) -> None:
        self._directory = work / "hogsend"
        self._passphrase = work / "passphrase"
        self._ledger = work / "ledger"
        self._backups = work / "backups"

    @property
    def directory(self) -> Path:
        """Directory of the deployment."""
        return self._directory

    @property
    def ledger(self) -> Path:
        """File with the ids of all accepted events."""
        return self._ledger

    def prepare(self) -> None:
        """Remove an earlier deployment, copy the checkout, and create the `hogsend` command."""
        if (self._directory / "compose.yaml").exists():
            self.bash("docker compose --profile cluster down --volumes --remove-orphans")
        shutil.rmtree(self._directory, ignore_errors=True)
        self._ledger.unlink(missing_ok=True)
        shutil.rmtree(self._backups, ignore_errors=True)
        tracked_files = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True
        ).stdout
        for name in tracked_files.decode().split("\0"):
            if name and (ROOT / name).is_file():
                (self._directory / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self._directory / name)
        command = self._directory / ".venv" / "bin" / "hogsend"
        command.parent.mkdir(parents=True)
        command.write_text(
            f"#!/bin/sh\nPYTHONPATH={self._directory}:{self._directory}/shared "
            f'exec {sys.executable} -m cli.main "$@"\n'
        )
        command.chmod(0o755)
        self._passphrase.write_text("correct horse battery staple\n")
        # The load sends webhooks without a secret.
        (self._directory / ".env").write_text("WEBHOOK_OPEN=true\n")

    def run(self, block: Block) -> None:
        """Run the commands of one block as a script."""
        lines = [line for line in block.commands if line not in SKIPPED_COMMANDS]
        script = "\n".join(lines)
        script = script.replace("/root/backup-passphrase", str(self._passphrase))
        script = script.replace("backup/$(date +%F)", str(self._backups / "today"))
        script = script.replace("backup/2026-01-01", str(self._backups / "today"))
        say(f"--- {block.section}\n{script}")
        self.bash(script)

    def empty_machine(self) -> None:
        """Remove everything except the checkout and the backups."""
        self.bash("docker compose --profile cluster down --volumes --remove-orphans")
        shutil.rmtree(self._directory / "deploy" / "secrets")
        (self._directory / ".env").unlink()

    def wait_until_healthy(self, gateway: str = GATEWAY, *, status: str = "healthy") -> None:
        """Wait until a gateway reports a status.

        Args:
            gateway: its address.
            status: `degraded` before PostHog is connected: webhooks are refused until then.
        """
        deadline = time.monotonic() + HEALTHY_SECONDS
        reported = ""
        while time.monotonic() < deadline:
            try:
                reported = httpx.get(f"{gateway}/v1/health", timeout=5).json()["status"]
            except (httpx.HTTPError, ValueError):
                reported = "unavailable"
            if reported == status:
                return
            time.sleep(1)
        raise SystemExit(f"{gateway} is {reported} after {HEALTHY_SECONDS} s")

    @contextmanager
    def load(self, *arguments: str) -> Iterator[None]:
        """Send webhooks during the block.

        Args:
            arguments: of `tests.engine.load`. Without any it sends to both gateways.

        Raises:
            SystemExit: the load reports a webhook or delivery that must not have been refused.
        """
        command, *options = arguments or ("send", "--to", GATEWAY, "--to", GATEWAY_2)
        sending = subprocess.Popen([*self._load(command), *options], cwd=ROOT)
        try:
            yield
        finally:
            sending.send_signal(signal.SIGTERM)
            sending.wait(120)
        if sending.returncode:
            raise SystemExit("the load failed: its output above says why")

    def verify(self) -> None:
        """Check that every accepted webhook was stored and published."""
        subprocess.run(
            [*self._load("verify"), "--directory", str(self._directory)], check=True, cwd=ROOT
        )

    def verify_logs(self) -> None:
        """Check that no password or key of the deployment is in a log."""
        logs = subprocess.run(
            ["docker", "compose", "--profile", "*", "logs", "--no-color"],
            cwd=self._directory,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        texts = [
            file.read_text()
            for file in (self._directory / "deploy" / "secrets").rglob("*")
            if file.is_file()
        ]
        words = set(SECRET.findall("\n".join([*texts, (self._directory / ".env").read_text()])))
        if leaked := [word[:6] for word in words if word in logs]:
            raise SystemExit(f"secrets are in the logs: they start with {', '.join(leaked)}")
        say(f"none of {len(words)} secrets is in {len(logs)} characters of logs")

    def verify_removed(self) -> None:
        """Check that the engine and the directory have nothing left of the deployment."""
        of_project = f"label=com.docker.compose.project={self._directory.name}"
        for kind in (["ps", "--all"], ["volume", "ls"], ["network", "ls"]):
            remaining = subprocess.run(
                ["docker", *kind, "--quiet", "--filter", of_project],
                check=True,
                capture_output=True,
                text=True,
            ).stdout.split()
            if remaining:
                raise SystemExit(f"docker {' '.join(kind)} still lists {', '.join(remaining)}")
        for name in (".env", "deploy/secrets"):
            if (self._directory / name).exists():
                raise SystemExit(f"{name} still exists")
        say("nothing is left of the deployment")

    def _load(self, command: str) -> Sequence[str]:
        return [
            *(sys.executable, "-m", "tests.engine.load", command, str(self._ledger)),
            *("--rate", str(RATE)),
        ]

    def bash(self, script: str) -> None:
        """Run a script in the deployment's directory."""
        subprocess.run(
            ["bash", "-eu", "-o", "pipefail", "-c", script],
            cwd=self._directory,
            # Without a terminal, the passphrase of a backup comes from the environment.
            env={**os.environ, "HOGSEND_BACKUP_PASSPHRASE": self._passphrase.read_text().strip()},
            check=True,
        )


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()

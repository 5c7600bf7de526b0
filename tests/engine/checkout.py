"""Who follows a document on a container engine, in a copy of this checkout.

`run_document` and `run_restore` follow docs/deploy.md, `run_rotation` docs/rotation.md.
`run_upgrade` comes from an earlier version, `run_kills` kills and replaces each container, and
`run_pods` runs the pods of deploy/kubernetes. `run_observe` looks at a deployment as its observers
do. All of them need an engine (DOCKER_HOST) that has the images of `tests/engine/stand_ins.sh`, or
may pull the real ones.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import msgspec

ROOT = Path(__file__).parents[2]
GATEWAY = "http://127.0.0.1:3002"
GATEWAY_2 = "http://127.0.0.1:3003"
HEALTHY_SECONDS = 300
RATE = 10
"""Webhooks a second."""
SECRET = re.compile(r"\bs[0-9a-f]{48}\b|(?<=_SECRET=)\S+")
"""As `generate_secrets.py` makes them up, and those of `.env`."""
SKIPPED_COMMANDS = {
    # This copy has what it installs, and no version to go to but its own.
    "make install",
    "git fetch && git checkout v0.2.0",
}


class Block(msgspec.Struct, frozen=True):
    """One block of commands."""

    section: str
    commands: tuple[str, ...]


def blocks(text: str) -> list[Block]:
    """The console blocks of a document, each with the heading it stands under."""
    found, section, commands = list[Block](), "", None
    for line in text.splitlines():
        if heading := re.match(r"#+ (.*)", line) if commands is None else None:
            section = heading[1]
        elif line.startswith("```console"):
            commands = list[str]()
        elif line.startswith("```") and commands is not None:
            found.append(Block(section, tuple(commands)))
            commands = None
        elif commands is not None and line.startswith("$ "):
            commands.append(re.sub(r"\s{2,}#.*", "", line[2:]))
    return found


class Reader:
    """Who reads the document, in a directory of their own."""

    def __init__(self, work: Path) -> None:
        self._directory = work / "hogsend"
        self._passphrase = work / "passphrase"
        self._ledger = work / "ledger"
        self._backups = work / "backups"

    @property
    def directory(self) -> Path:
        """Where the deployment is."""
        return self._directory

    @property
    def ledger(self) -> Path:
        """File with the id of everything that was accepted."""
        return self._ledger

    def prepare(self) -> None:
        """Copy the checkout, and what `make install` would have made."""
        if (self._directory / "compose.yaml").exists():
            self.bash("docker compose --profile cluster down --volumes --remove-orphans")
        shutil.rmtree(self._directory, ignore_errors=True)
        self._ledger.unlink(missing_ok=True)
        shutil.rmtree(self._backups, ignore_errors=True)
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True
        ).stdout
        for name in listed.decode().split("\0"):
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
        # Webhooks are sent without a secret here.
        (self._directory / ".env").write_text("WEBHOOK_OPEN=true\n")

    def run(self, block: Block) -> None:
        """Run one block as a script."""
        lines = [line for line in block.commands if line not in SKIPPED_COMMANDS]
        script = "\n".join(lines)
        script = script.replace("/root/backup-passphrase", str(self._passphrase))
        script = script.replace("backup/$(date +%F)", str(self._backups / "today"))
        script = script.replace("backup/2026-01-01", str(self._backups / "today"))
        say(f"--- {block.section}\n{script}")
        self.bash(script)

    def empty_machine(self) -> None:
        """Take away everything but the checkout and the backups."""
        self.bash("docker compose --profile cluster down --volumes --remove-orphans")
        shutil.rmtree(self._directory / "deploy" / "secrets")
        (self._directory / ".env").unlink()

    def wait_until_healthy(self, gateway: str = GATEWAY, *, wanted: str = "healthy") -> None:
        """What a reader does before the next step.

        Args:
            gateway: which one is asked.
            wanted: `degraded` before PostHog is connected, which webhooks wait for.
        """
        deadline = time.monotonic() + HEALTHY_SECONDS
        found = ""
        while time.monotonic() < deadline:
            try:
                found = httpx.get(f"{gateway}/v1/health", timeout=5).json()["status"]
            except (httpx.HTTPError, ValueError):
                found = "away"
            if found == wanted:
                return
            time.sleep(1)
        raise SystemExit(f"it is {found} after {HEALTHY_SECONDS} s")

    @contextmanager
    def load(self, *words: str) -> Iterator[None]:
        """Send webhooks meanwhile.

        Args:
            words: what `tests.engine.load` is told instead of sending to both gateways.
        """
        chosen = words or ("send", "--to", GATEWAY, "--to", GATEWAY_2)
        sending = subprocess.Popen([*self._load(chosen[0]), *chosen[1:]], cwd=ROOT)
        try:
            yield
        finally:
            sending.send_signal(signal.SIGTERM)
            sending.wait(120)
        if sending.returncode:
            raise SystemExit("what was sent was not answered as it should have been")

    def verify(self) -> None:
        """Look for every webhook that was accepted."""
        subprocess.run(
            [*self._load("verify"), "--directory", str(self._directory)], check=True, cwd=ROOT
        )

    def verify_logs(self) -> None:
        """Look into every log for every password and key of the deployment."""
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
        if found := [word[:6] for word in words if word in logs]:
            raise SystemExit(f"secrets are in the logs: they begin with {', '.join(found)}")
        say(f"none of {len(words)} secrets is in {len(logs)} characters of logs")

    def _load(self, what: str) -> Sequence[str]:
        return [
            *(sys.executable, "-m", "tests.engine.load", what, str(self._ledger)),
            *("--rate", str(RATE)),
        ]

    def bash(self, script: str) -> None:
        """Run a script in the deployment's directory."""
        subprocess.run(
            ["bash", "-eu", "-o", "pipefail", "-c", script],
            cwd=self._directory,
            # The passphrase is what somebody would type.
            env={**os.environ, "HOGSEND_BACKUP_PASSPHRASE": self._passphrase.read_text().strip()},
            check=True,
        )


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()

"""Upgrades a deployment on a container engine, takes it back, and upgrades it again, under load.

python -m tests.engine.run_upgrade WORK [COMMIT] [--one-port] [--cluster]

COMMIT is the earlier version, the last one of 0.1.0 unless it is named. The commands are those of
docs/deploy.md. Webhooks arrive all the while, and in the end every one that was accepted has to be
there. With one gateway those are refused that come while it is replaced. With `--one-port` two
gateways have one port, and with `--cluster` there is a proxy in front of two: none may be refused
then. Version 0.1.0 has one gateway here; after the upgrade it becomes two at one port, and one.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from tests.engine.reader import GATEWAY, GATEWAY_2, ROOT, Block, Reader, blocks, say

DOCUMENT = ROOT / "docs" / "deploy.md"
EARLIER = "2e20432"
EARLIER_IMAGE = "HOGSEND_IMAGE=hogsend:0.1.0"
SETTINGS = "WEBHOOK_OPEN=true\n"
OWN = ("deploy/secrets", ".venv", ".env")
"""What a checkout leaves as it is."""


class Deployment:
    """A deployment whose version changes."""

    def __init__(self, reader: Reader, commit: str, *, one_port: bool, cluster: bool) -> None:
        self._reader = reader
        self._commit = commit
        self._env_file = reader.directory / ".env"
        self._one_port = one_port
        self._cluster = cluster
        # The word for two gateways: what it says is refused is a failure.
        self._load = ("--none-refused",) if one_port or cluster else ()

    @property
    def is_of_0_1(self) -> bool:
        """Whether the earlier version is 0.1.0, which has no `hogsend compose`."""
        return not self._has("cli/commands/compose.py")

    @property
    def gives_streams_back(self) -> bool:
        """Whether the earlier version has no account for our services, and one server."""
        return not (
            self._cluster or self.is_of_0_1 or self._has("deploy/nats/cluster-accounts.conf")
        )

    def _has(self, path: str) -> bool:
        shown = ["git", "cat-file", "-e", f"{self._commit}:{path}"]
        return subprocess.run(shown, cwd=ROOT, check=False, capture_output=True).returncode == 0

    def start_earlier(self, two_gateways: Block) -> None:
        """Start the earlier version; the image of 0.1.0 is built unless it is there."""
        self._reader.prepare()
        self._check_out(self._commit)
        self._reader.bash("python3 deploy/generate_secrets.py")
        if self.is_of_0_1:
            build = f"{EARLIER_IMAGE} docker compose build gateway"
            self._env_file.write_text("")
            self._reader.bash(
                f"docker image inspect hogsend:0.1.0 > /dev/null 2>&1 || {build}\n"
                f"{EARLIER_IMAGE} docker compose up -d"
            )
        else:
            self._env_file.write_text(SETTINGS)
            layout = ".venv/bin/hogsend compose layout cluster" if self._cluster else "true"
            self._reader.bash(f"docker compose build; {layout}; docker compose up -d")
            if self._one_port:
                self._reader.wait_until_healthy()
                self._reader.run(two_gateways)
        self._reader.wait_until_healthy()

    def upgrade(self, block: Block) -> None:
        """Follow the document to this version while webhooks arrive."""
        self._change("HEAD", SETTINGS if self.is_of_0_1 else None, block)

    def take_back(self, block: Block, give_back: Block) -> None:
        """Follow the document to the earlier version while webhooks arrive."""
        settings = "" if self.is_of_0_1 else None
        before = give_back if self.gives_streams_back else None
        self._change(self._commit, settings, block, before)

    def _change(
        self, commit: str, settings: str | None, block: Block, before: Block | None = None
    ) -> None:
        gateways = [GATEWAY, GATEWAY_2] if self._cluster and not self._one_port else [GATEWAY]
        to = [word for gateway in gateways for word in ("--to", gateway)]
        refused = () if self.is_of_0_1 else self._load
        with self._reader.load("send", *to, *refused):
            if not (self.is_of_0_1 and commit == self._commit):
                # Some webhooks are to wait on the bus meanwhile; not tried with 0.1.0.
                self._reader.bash("docker compose stop ingest")
            if before is not None:
                self._reader.run(before)
            self._check_out(commit)
            if settings is not None:
                self._env_file.write_text(settings)
            commands = [line for line in block.commands if "git checkout" not in line]
            self._reader.run(Block(block.section, tuple(commands)))
            self._reader.wait_until_healthy()

    def _check_out(self, commit: str) -> None:
        directory = self._reader.directory
        kept = {directory / name for name in OWN}
        for path in sorted(directory.rglob("*"), reverse=True):
            if not any(path == one or one in path.parents or path in one.parents for one in kept):
                path.rmdir() if path.is_dir() else path.unlink()
        archive = subprocess.run(
            ["git", "archive", commit], cwd=ROOT, check=True, capture_output=True
        ).stdout
        subprocess.run(["tar", "-x"], cwd=directory, input=archive, check=True)


def main() -> int:
    """Run the document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("commit", nargs="?", default=EARLIER)
    parser.add_argument("--one-port", action="store_true")
    parser.add_argument("--cluster", action="store_true")
    chosen = parser.parse_args()
    found: dict[str, list[Block]] = {}
    for block in blocks(DOCUMENT.read_text()):
        found.setdefault(block.section, []).append(block)
    reader = Reader(chosen.work.resolve())
    deployment = Deployment(reader, chosen.commit, one_port=chosen.one_port, cluster=chosen.cluster)
    (upgrade,) = found["Upgrades"]
    two_gateways, one_gateway = found["Two gateways behind one port"]
    give_back, back_to_0_1 = found["Back to an earlier version"]
    back = back_to_0_1 if deployment.is_of_0_1 else upgrade
    deployment.start_earlier(two_gateways)
    deployment.upgrade(upgrade)
    reader.verify()
    deployment.take_back(back, give_back)
    deployment.upgrade(upgrade)
    reader.verify()
    if deployment.is_of_0_1 and chosen.one_port:
        for block in (two_gateways, one_gateway):
            with reader.load("send", "--to", GATEWAY):
                reader.run(block)
                reader.wait_until_healthy()
            reader.verify()
    reader.verify_logs()
    say("everything that was accepted is there")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Upgrades a deployment on a container engine, downgrades it, and upgrades it again, under load.

python -m tests.engine.run_upgrade WORK [COMMIT] [--one-port] [--cluster]

COMMIT is the earlier version, by default the last commit of 0.1.0. The commands are those of
docs/deploy.md. Webhooks arrive all the time, and in the end every accepted webhook must be stored
and published. A deployment with one gateway refuses webhooks while the gateway is replaced. With
`--one-port` two gateways share a port, and with `--cluster` two gateways are behind a proxy: no
webhook may be refused then. Version 0.1.0 always starts with one gateway; with `--one-port` the
upgraded deployment changes to two gateways on one port, and back.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from tests.engine.checkout import GATEWAY, GATEWAY_2, ROOT, Block, Checkout, say, sections

DOCUMENT = ROOT / "docs" / "deploy.md"
EARLIER_COMMIT = "2e20432"
EARLIER_IMAGE = "HOGSEND_IMAGE=hogsend:0.1.0"
SETTINGS = "WEBHOOK_OPEN=true\n"
UNTRACKED = ("deploy/secrets", ".venv", ".env")
"""Paths that a switch to another commit keeps."""


class Deployment:
    """A deployment whose version changes."""

    def __init__(self, checkout: Checkout, commit: str, *, one_port: bool, cluster: bool) -> None:
        self._checkout = checkout
        self._commit = commit
        self._env_file = checkout.directory / ".env"
        self._one_port = one_port
        self._cluster = cluster
        # With two gateways the load fails if a webhook was refused.
        self._load_options = ("--none-refused",) if one_port or cluster else ()

    @property
    def is_of_0_1(self) -> bool:
        """Whether the earlier version is 0.1.0, which has no `hogsend compose`."""
        return not self._has("cli/commands/compose.py")

    @property
    def must_return_streams(self) -> bool:
        """Whether the earlier version has one NATS server and no account for Hogsend's streams."""
        return not (
            self._cluster or self.is_of_0_1 or self._has("deploy/nats/cluster-accounts.conf")
        )

    def _has(self, path: str) -> bool:
        command = ["git", "cat-file", "-e", f"{self._commit}:{path}"]
        return subprocess.run(command, cwd=ROOT, check=False, capture_output=True).returncode == 0

    def start_earlier(self, two_gateways: Block) -> None:
        """Start the earlier version; build the image of 0.1.0 unless it exists."""
        self._checkout.prepare()
        self._switch_to(self._commit)
        self._checkout.bash("python3 deploy/generate_secrets.py")
        if self.is_of_0_1:
            build = f"{EARLIER_IMAGE} docker compose build gateway"
            self._env_file.write_text("")
            self._checkout.bash(
                f"docker image inspect hogsend:0.1.0 > /dev/null 2>&1 || {build}\n"
                f"{EARLIER_IMAGE} docker compose up -d"
            )
        else:
            self._env_file.write_text(SETTINGS)
            layout = ".venv/bin/hogsend compose layout cluster" if self._cluster else "true"
            self._checkout.bash(f"docker compose build; {layout}; docker compose up -d")
            if self._one_port:
                self._checkout.wait_until_healthy()
                self._checkout.run(two_gateways)
        self._checkout.wait_until_healthy()

    def upgrade(self, block: Block) -> None:
        """Upgrade to this version as in the document, while webhooks arrive."""
        self._change("HEAD", SETTINGS if self.is_of_0_1 else None, block)

    def downgrade(self, block: Block, return_streams: Block) -> None:
        """Return to the earlier version as in the document, while webhooks arrive."""
        settings = "" if self.is_of_0_1 else None
        before = return_streams if self.must_return_streams else None
        self._change(self._commit, settings, block, before)

    def _change(
        self, commit: str, settings: str | None, block: Block, before: Block | None = None
    ) -> None:
        gateways = [GATEWAY, GATEWAY_2] if self._cluster and not self._one_port else [GATEWAY]
        to = [word for gateway in gateways for word in ("--to", gateway)]
        refused = () if self.is_of_0_1 else self._load_options
        with self._checkout.load("send", *to, *refused):
            if not (self.is_of_0_1 and commit == self._commit):
                # Webhooks then wait on the bus during the change; not tried with 0.1.0.
                self._checkout.bash("docker compose stop ingest")
            if before is not None:
                self._checkout.run(before)
            self._switch_to(commit)
            if settings is not None:
                self._env_file.write_text(settings)
            commands = [line for line in block.commands if "git checkout" not in line]
            self._checkout.run(Block(block.section, tuple(commands)))
            self._checkout.wait_until_healthy()

    def _switch_to(self, commit: str) -> None:
        directory = self._checkout.directory
        kept = {directory / name for name in UNTRACKED}
        for path in sorted(directory.rglob("*"), reverse=True):
            if not any(
                path == each or each in path.parents or path in each.parents for each in kept
            ):
                path.rmdir() if path.is_dir() else path.unlink()
        archive = subprocess.run(
            ["git", "archive", commit], cwd=ROOT, check=True, capture_output=True
        ).stdout
        subprocess.run(["tar", "-x"], cwd=directory, input=archive, check=True)


def main() -> int:
    """Run the blocks of the document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("commit", nargs="?", default=EARLIER_COMMIT)
    parser.add_argument("--one-port", action="store_true")
    parser.add_argument("--cluster", action="store_true")
    arguments = parser.parse_args()
    by_section = sections(DOCUMENT.read_text())
    checkout = Checkout(arguments.work.resolve())
    deployment = Deployment(
        checkout, arguments.commit, one_port=arguments.one_port, cluster=arguments.cluster
    )
    (upgrade,) = by_section["Upgrades"]
    two_gateways, one_gateway = by_section["Two gateways behind one port"]
    return_streams, back_to_0_1 = by_section["Back to an earlier version"]
    back = back_to_0_1 if deployment.is_of_0_1 else upgrade
    deployment.start_earlier(two_gateways)
    deployment.upgrade(upgrade)
    checkout.verify()
    deployment.downgrade(back, return_streams)
    deployment.upgrade(upgrade)
    checkout.verify()
    if deployment.is_of_0_1 and arguments.one_port:
        for block in (two_gateways, one_gateway):
            with checkout.load("send", "--to", GATEWAY):
                checkout.run(block)
                checkout.wait_until_healthy()
            checkout.verify()
    checkout.verify_logs()
    say("every accepted event was stored and published")
    return 0


if __name__ == "__main__":
    sys.exit(main())

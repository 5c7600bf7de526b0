"""Upgrades a deployment on a container engine, takes it back, and upgrades it again, under load.

python -m tests.engine.run_upgrade WORK [COMMIT]     COMMIT is of version 0.1.0

The commands are those of docs/deploy.md. Webhooks arrive all the while; with one gateway those are
refused that come while it is replaced. In the end every one that was accepted has to be there.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.engine.reader import GATEWAY, ROOT, Block, Reader, blocks, say

DOCUMENT = ROOT / "docs" / "deploy.md"
EARLIER = "2e20432"
EARLIER_IMAGE = "HOGSEND_IMAGE=hogsend:0.1.0"
OWN = ("deploy/secrets", ".venv")
"""What a checkout leaves as it is, beside `.env`."""


class Deployment:
    """A deployment whose version changes."""

    def __init__(self, reader: Reader, commit: str) -> None:
        self._reader = reader
        self._commit = commit

    def start_earlier(self) -> None:
        """Start the earlier version; its image is built unless it is there."""
        self._reader.prepare()
        self._check_out(self._commit, "")
        build = f"{EARLIER_IMAGE} docker compose build gateway"
        self._reader.bash(
            f"docker image inspect hogsend:0.1.0 > /dev/null 2>&1 || {build}\n"
            f"python3 deploy/generate_secrets.py\n{EARLIER_IMAGE} docker compose up -d"
        )
        self._reader.wait_until_healthy()

    def change(self, block: Block, *, to_earlier: bool) -> None:
        """Follow the document to another version while webhooks arrive."""
        with self._reader.load("send", "--to", GATEWAY):
            if to_earlier:
                self._check_out(self._commit, "")
            else:
                self._check_out("HEAD", "WEBHOOK_OPEN=true\n")
            commands = [line for line in block.commands if "git checkout" not in line]
            self._reader.run(Block(block.section, tuple(commands)))
            self._reader.wait_until_healthy()

    def _check_out(self, commit: str, settings: str) -> None:
        directory = self._reader.directory
        kept = {directory / name for name in OWN}
        for path in sorted(directory.rglob("*"), reverse=True):
            if not any(path == one or one in path.parents or path in one.parents for one in kept):
                path.rmdir() if path.is_dir() else path.unlink()
        archive = subprocess.run(
            ["git", "archive", commit], cwd=ROOT, check=True, capture_output=True
        ).stdout
        subprocess.run(["tar", "-x"], cwd=directory, input=archive, check=True)
        (directory / ".env").write_text(settings)


def main() -> int:
    """Run the document."""
    found = {block.section: block for block in blocks(DOCUMENT.read_text())}
    reader = Reader(Path(sys.argv[1]).resolve())
    deployment = Deployment(reader, sys.argv[2] if len(sys.argv) > 2 else EARLIER)
    deployment.start_earlier()
    upgrade, back = found["Upgrades"], found["Back to an earlier version"]
    deployment.change(upgrade, to_earlier=False)
    reader.verify()
    deployment.change(back, to_earlier=True)
    deployment.change(upgrade, to_earlier=False)
    reader.verify()
    reader.verify_logs()
    say("everything that was accepted is there")
    return 0


if __name__ == "__main__":
    sys.exit(main())

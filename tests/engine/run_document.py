"""Runs docs/deploy.md on a container engine: the document's own blocks, in a copy of this checkout.

python -m tests.engine.run_document WORK

Blocks run in the document's order, with webhooks sent all the while; what the document leaves to
its reader is done between them: waiting until everything is healthy, and, before the restore, an
empty machine. At the end every webhook that was accepted has to be there.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tests.engine.reader import ROOT, Block, Reader, blocks, say

DOCUMENT = ROOT / "docs" / "deploy.md"
PLAN = (
    "Compose",
    "Three NATS servers",
    "With a stand-in for PostHog",
    "Upgrades",
    "Backup and restore",
)
"""The sections that are about Compose."""


def planned(text: str) -> list[Block]:
    """The blocks that are run."""
    return [block for block in blocks(text) if block.section in PLAN]


def main() -> int:
    """Run the document."""
    reader = Reader(Path(sys.argv[1]).resolve())
    reader.prepare()
    deploy, cluster, sandbox, upgrade, backup, restore = planned(DOCUMENT.read_text())
    reader.run(deploy)
    reader.wait_until_healthy()
    for block in (cluster, upgrade):
        with reader.load():
            reader.run(block)
        reader.wait_until_healthy()
    with reader.load():
        time.sleep(5)
    reader.verify()
    reader.run(backup)
    reader.empty_machine()
    reader.run(restore)
    reader.wait_until_healthy()
    reader.verify()
    reader.run(sandbox)
    reader.verify_logs()
    say("everything that was accepted is there")
    return 0


if __name__ == "__main__":
    sys.exit(main())

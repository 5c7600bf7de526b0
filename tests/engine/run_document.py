"""Runs docs/deploy.md on a container engine: the document's own blocks, in a copy of this checkout.

python -m tests.engine.run_document WORK

The blocks run in the document's order while webhooks are sent. Between them this program does what
the document leaves to its reader: it waits until everything is healthy, and empties the machine
before the restore. At the end every accepted webhook must be stored and published.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tests.engine.checkout import ROOT, Block, Checkout, blocks, say

DOCUMENT = ROOT / "docs" / "deploy.md"
PLAN = (
    "Compose",
    "Three NATS servers",
    "With a stand-in for PostHog",
    "Upgrades",
    "Backup and restore",
    "Remove a deployment",
)
"""The sections of the document whose blocks are run, all of them about Compose."""


def planned(text: str) -> list[Block]:
    """Return the blocks that are run."""
    return [block for block in blocks(text) if block.section in PLAN]


def main() -> int:
    """Run the document."""
    checkout = Checkout(Path(sys.argv[1]).resolve())
    checkout.prepare()
    deploy, cluster, sandbox, upgrade, backup, restore, remove = planned(DOCUMENT.read_text())
    checkout.run(deploy)
    checkout.wait_until_healthy()
    for block in (cluster, upgrade):
        with checkout.load():
            checkout.run(block)
        checkout.wait_until_healthy()
    with checkout.load():
        time.sleep(5)
    checkout.verify()
    checkout.run(backup)
    checkout.empty_machine()
    checkout.run(restore)
    checkout.wait_until_healthy()
    checkout.verify()
    checkout.run(sandbox)
    checkout.verify_logs()
    checkout.run(remove)
    checkout.verify_removed()
    say("every accepted event was stored and published")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Backs a connected deployment up while events arrive, and restores it on an empty machine.

python -m tests.engine.run_restore WORK [--cluster]

PostHog's stand-in runs beside the engine, and so outlives the deployment as PostHog does. Of what
was delivered, everything from before the backup has to be there afterwards. The restored deployment
has to know the same admin key, to find nothing wrong with itself, and to take what PostHog sends
with the secret and the key that were minted before.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import msgspec

from sandbox.options import Options
from tests.engine.load import State
from tests.engine.reader import GATEWAY, ROOT, Block, Reader, blocks, say
from tests.engine.run_document import DOCUMENT

BRIDGE = "172.17.0.1"
"""Where containers reach the machine of their engine, unless that was told otherwise."""
POSTHOG = f"http://{BRIDGE}:8010"
SETTINGS = f"""\
POSTHOG_HOST={POSTHOG}
OUTBOUND_ALLOW={BRIDGE}
API_PUBLIC_URL=http://gateway:3002
POSTHOG_API_KEY={Options().project_key}
POSTHOG_PERSONAL_API_KEY={Options().personal_key}
"""
CAPTURE = ("capture", "--posthog", POSTHOG)
DELIVERIES = 100
SECONDS = 180


@contextmanager
def posthog() -> Iterator[None]:
    """Run the stand-in until the block ends."""
    running = subprocess.Popen(
        [
            *(sys.executable, "-m", "cli.main", "sandbox", "--host", BRIDGE),
            *("--auto-consent", "--allow-http-clients", "--deliver-anywhere"),
            f"--resolve=gateway={GATEWAY.removeprefix('http://')}",
        ],
        cwd=ROOT,
    )
    try:
        yield
    finally:
        running.terminate()
        running.wait(30)


def wait_for_deliveries() -> None:
    """Wait until PostHog has delivered some events more."""
    wanted = None
    for _ in range(SECONDS):
        state = httpx.get(f"{POSTHOG}/_sandbox/state", timeout=10).content
        found = len(msgspec.json.decode(state, type=State).deliveries)
        wanted = found + DELIVERIES if wanted is None else wanted
        if found >= wanted:
            return
        time.sleep(1)
    raise SystemExit("PostHog delivers nothing")


def admin_key(reader: Reader) -> str:
    """The admin key, which has to open the admin API."""
    file = reader.directory / "deploy" / "secrets" / "gateway" / "admin_api_key"
    key = file.read_text().strip()
    headers = {"Authorization": f"Bearer {key}"}
    httpx.get(f"{GATEWAY}/v1/admin/events", headers=headers, timeout=10).raise_for_status()
    return key


def main() -> int:
    """Run the document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--cluster", action="store_true")
    chosen = parser.parse_args()
    found: dict[str, list[Block]] = {}
    for block in blocks(DOCUMENT.read_text()):
        found.setdefault(block.section, []).append(block)
    backup, restore = found["Backup and restore"]
    _, connect = found["With a stand-in for PostHog"][0].commands
    doctor = found["Compose"][0].commands[-1]
    reader = Reader(chosen.work.resolve())
    reader.prepare()
    (reader.directory / ".env").write_text(SETTINGS)
    layout = ".venv/bin/hogsend compose layout cluster\n" if chosen.cluster else ""
    reader.bash(
        f"python3 deploy/generate_secrets.py\ndocker compose build\n{layout}docker compose up -d"
    )
    with posthog():
        reader.wait_until_healthy(wanted="degraded")
        reader.bash(connect)
        reader.wait_until_healthy()
        key = admin_key(reader)
        with reader.load(*CAPTURE):
            wait_for_deliveries()
        before = reader.ledger.read_text()
        with reader.load(*CAPTURE):
            wait_for_deliveries()
            reader.run(backup)
        # What came while it ran may be in it.
        reader.ledger.write_text(before)
        reader.empty_machine()
        reader.run(restore)
        reader.wait_until_healthy()
        reader.verify()
        if admin_key(reader) != key:
            raise SystemExit("the admin key is another one")
        reader.bash(doctor)
        with reader.load(*CAPTURE):
            wait_for_deliveries()
        if reader.ledger.read_text() == before:
            raise SystemExit("PostHog delivered nothing to what was restored")
        reader.verify()
    reader.verify_logs()
    say("what was delivered before the backup is there, and PostHog is believed")
    return 0


if __name__ == "__main__":
    sys.exit(main())

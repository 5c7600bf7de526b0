"""Backs up a connected deployment while events arrive, and restores it on an empty machine.

python -m tests.engine.run_restore WORK [--cluster]

PostHog's stand-in runs outside the engine, so it outlives the deployment as PostHog does. Every
event that was delivered before the backup must be stored and published afterwards. The restored
deployment must accept the same admin key, pass `hogsend doctor`, and accept what PostHog sends with
the secret and the signing key that were generated before.
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
from tests.engine.checkout import GATEWAY, ROOT, Checkout, say, sections
from tests.engine.load import State
from tests.engine.run_document import DOCUMENT

BRIDGE = "172.17.0.1"
"""Address at which containers reach the host of their engine, by Docker's default."""
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
    """Wait until PostHog has delivered `DELIVERIES` more events."""
    target = None
    for _ in range(SECONDS):
        state = httpx.get(f"{POSTHOG}/_sandbox/state", timeout=10).content
        delivered = len(msgspec.json.decode(state, type=State).deliveries)
        target = delivered + DELIVERIES if target is None else target
        if delivered >= target:
            return
        time.sleep(1)
    raise SystemExit("PostHog delivers nothing")


def admin_key(checkout: Checkout) -> str:
    """Return the admin key, after a request that it must authorize."""
    file = checkout.directory / "deploy" / "secrets" / "gateway" / "admin_api_key"
    key = file.read_text().strip()
    headers = {"Authorization": f"Bearer {key}"}
    httpx.get(f"{GATEWAY}/v1/admin/events", headers=headers, timeout=10).raise_for_status()
    return key


def main() -> int:
    """Run the blocks of the document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--cluster", action="store_true")
    arguments = parser.parse_args()
    by_section = sections(DOCUMENT.read_text())
    backup, restore = by_section["Backup and restore"]
    _, connect = by_section["With a stand-in for PostHog"][0].commands
    doctor = by_section["Compose"][0].commands[-1]
    checkout = Checkout(arguments.work.resolve())
    checkout.prepare()
    (checkout.directory / ".env").write_text(SETTINGS)
    layout = ".venv/bin/hogsend compose layout cluster\n" if arguments.cluster else ""
    checkout.bash(
        f"python3 deploy/generate_secrets.py\ndocker compose build\n{layout}docker compose up -d"
    )
    with posthog():
        checkout.wait_until_healthy(status="degraded")
        checkout.bash(connect)
        checkout.wait_until_healthy()
        key = admin_key(checkout)
        with checkout.load(*CAPTURE):
            wait_for_deliveries()
        before = checkout.ledger.read_text()
        with checkout.load(*CAPTURE):
            wait_for_deliveries()
            checkout.run(backup)
        # An event that arrived during the backup may be in it or not, so it is not checked.
        checkout.ledger.write_text(before)
        checkout.empty_machine()
        checkout.run(restore)
        checkout.wait_until_healthy()
        checkout.verify()
        if admin_key(checkout) != key:
            raise SystemExit("the restored admin key differs")
        checkout.bash(doctor)
        with checkout.load(*CAPTURE):
            wait_for_deliveries()
        if checkout.ledger.read_text() == before:
            raise SystemExit("PostHog delivered nothing to the restored deployment")
        checkout.verify()
    checkout.verify_logs()
    say("every event from before the backup was restored, and webhooks of PostHog are accepted")
    return 0


if __name__ == "__main__":
    sys.exit(main())

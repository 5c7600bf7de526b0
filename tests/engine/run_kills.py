"""Kills, restarts and replaces each container of a deployment while events arrive.

python -m tests.engine.run_kills WORK

Every container ends in four ways: its first process is killed, so that the engine starts it again;
`docker compose kill -s KILL` and `up`; `docker compose restart`; `docker compose up -d
--force-recreate`. Webhooks and `POST /v1/events` alternate. Every event that the gateway accepted
must be stored and published in the end. An event that it refused, or gave no response to, need not
be: the sender would repeat it.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from tests.engine.checkout import GATEWAY, Checkout, say

CONTAINERS = ("nats", "postgres", "credentials", "provisioner", "ingest", "analytics", "gateway")
WAYS = (
    # Like a crash: the engine restarts the container, which it does not after its own `kill`.
    "docker inspect -f '{{{{.State.Pid}}}}' $(docker compose ps -q {name}) | xargs kill -9",
    "docker compose kill -s KILL {name}; docker compose up -d",
    "docker compose restart {name}",
    "docker compose up -d --force-recreate --no-deps {name}",
)


def main() -> int:
    """End each container in each way, under load."""
    checkout = Checkout(Path(sys.argv[1]).resolve())
    checkout.prepare()
    (checkout.directory / ".env").write_text("WEBHOOK_OPEN=true\nINGEST_REPLICAS=2\n")
    checkout.bash("python3 deploy/generate_secrets.py; docker compose build; docker compose up -d")
    checkout.wait_until_healthy()
    key = checkout.directory / "deploy" / "secrets" / "gateway" / "admin_api_key"
    with checkout.load("send", "--to", GATEWAY, "--key", str(key)):
        for name in CONTAINERS:
            for way in WAYS:
                say(f"--- {way.format(name=name)}")
                checkout.bash(way.format(name=name))
                checkout.wait_until_healthy()
                time.sleep(2)
    checkout.verify()
    say(
        subprocess.run(
            ["docker", "compose", "ps", "--all"],
            cwd=checkout.directory,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    )
    checkout.verify_logs()
    say("every accepted event was stored and published")
    return 0


if __name__ == "__main__":
    sys.exit(main())

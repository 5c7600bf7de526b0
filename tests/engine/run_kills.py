"""Kills, restarts and replaces each container of a deployment, with events arriving all the while.

python -m tests.engine.run_kills WORK

Every container ends in four ways: its first process is killed, so that the engine starts it again;
`docker compose kill -s KILL` and `up`; `docker compose restart`; `docker compose up -d
--force-recreate`. Webhooks and `POST /v1/events` alternate. What the gateway accepted has to be
stored and announced in the end. What it refused, or did not answer, is somebody's to repeat.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from tests.engine.reader import GATEWAY, Reader, say

CONTAINERS = ("nats", "postgres", "credentials", "provisioner", "ingest", "analytics", "gateway")
WAYS = (
    # As a crash: the engine's policy starts it again, which it does not after its own `kill`.
    "docker inspect -f '{{{{.State.Pid}}}}' $(docker compose ps -q {name}) | xargs kill -9",
    "docker compose kill -s KILL {name}; docker compose up -d",
    "docker compose restart {name}",
    "docker compose up -d --force-recreate --no-deps {name}",
)


def main() -> int:
    """Run them all."""
    reader = Reader(Path(sys.argv[1]).resolve())
    reader.prepare()
    (reader.directory / ".env").write_text("WEBHOOK_OPEN=true\nINGEST_REPLICAS=2\n")
    reader.bash("python3 deploy/generate_secrets.py; docker compose build; docker compose up -d")
    reader.wait_until_healthy()
    key = reader.directory / "deploy" / "secrets" / "gateway" / "admin_api_key"
    with reader.load("send", "--to", GATEWAY, "--key", str(key)):
        for name in CONTAINERS:
            for way in WAYS:
                say(f"--- {way.format(name=name)}")
                reader.bash(way.format(name=name))
                reader.wait_until_healthy()
                time.sleep(2)
    reader.verify()
    say(
        subprocess.run(
            ["docker", "compose", "ps", "--all"],
            cwd=reader.directory,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    )
    reader.verify_logs()
    say("everything that was accepted is there")
    return 0


if __name__ == "__main__":
    sys.exit(main())

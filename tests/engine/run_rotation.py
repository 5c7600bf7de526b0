"""Runs docs/rotation.md on a container engine: every secret of a deployment is rotated twice.

python -m tests.engine.run_rotation WORK [--cluster]

The stack runs with the sandbox, which delivers events all the time, with the secret and signing key
that it received last. No delivery may get a 401 or 403, and every delivered event must be stored
and published. The first run rotates secrets that `hogsend connect` generated, the second run
secrets that the operator set. With `--cluster` the deployment has the layout `cluster`: three NATS
servers and two of each service, and PostHog reaches both gateways by one name, as behind a proxy.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import httpx

from tests.engine.checkout import GATEWAY, GATEWAY_2, ROOT, Block, Checkout, say, sections

DOCUMENT = ROOT / "docs" / "rotation.md"
TIMES = 2
SERVICES = ("gateway", "credentials", "provisioner", "ingest", "analytics")
OTHER_USERS = ("subscriber", "app", "operator")
OPERATOR_SECRETS = {
    "POSTHOG_WEBHOOK_SECRET": "a-secret-that-an-operator-made-up",
    "POSTHOG_SIGNING_SECRET": "c2lnbmVkLWJ5LXRoZS1lbmdpbmUtdGVzdC0wMDA=",
}
SETTINGS = "COMPOSE_FILE=compose.yaml:deploy/sandbox.yaml"
RESEALED = "docker compose logs {names} | grep -q 'row resealed with the current secret'"
FRONT = """\
services:
  gateway: &gateway
    networks: { default: { aliases: [front] } }
    environment: &public { API_PUBLIC_URL: "http://front:3002" }
  gateway-2: *gateway
  provisioner: &provisioner
    environment: *public
  provisioner-2: *provisioner
"""
"""Compose overlay that gives both gateways one name."""


def replace_in(block: Block, before: str, after: str) -> Block:
    """Return the block for another service or user, as a reader of the document would adapt it."""
    return Block(
        f"{block.section}: {after}",
        tuple(command.replace(before, after) for command in block.commands),
    )


def in_cluster(command: str) -> list[str]:
    """Return the commands that the document prescribes instead in the layout `cluster`."""
    started = re.fullmatch(r"(docker compose up -d(?: --[a-z-]+)*)((?: [a-z]+)+)", command)
    if started is None:
        return [command]
    line, names = started[1], started[2].split()
    other_containers = [
        container for name in names if name != "gateway" for container in replicas(name)
    ]
    if "gateway" not in names:
        return [" ".join([line, *other_containers])]
    wait = "" if "--wait" in line else " --wait"
    return [f"{line}{wait} {' '.join([*other_containers, 'gateway-2'])}", f"{line}{wait} gateway"]


def replicas(name: str) -> Sequence[str]:
    """Return the containers of a service in the layout `cluster`."""
    return (name, f"{name}-2", f"{name}-3") if name == "nats" else (name, f"{name}-2")


class Rotation:
    """The rotation of a deployment's secrets."""

    def __init__(self, checkout: Checkout, *, cluster: bool) -> None:
        self._checkout = checkout
        self._cluster = cluster
        self._gateways = (GATEWAY, GATEWAY_2) if cluster else (GATEWAY,)
        self._key_file = checkout.directory / "deploy" / "secrets" / "gateway" / "admin_api_key"

    def rotate_all(self) -> None:
        """Rotate every secret that exists after PostHog was connected."""
        by_section = sections(DOCUMENT.read_text())
        self._admin_key(*by_section["Admin keys"])
        for block in by_section["`BETTER_AUTH_SECRET`"]:
            self._run(block)
            if "--rotate" in block.commands[0]:
                names = replicas("credentials") if self._cluster else ("credentials",)
                self._wait_for(RESEALED.format(names=" ".join(names)))
        *_, webhook_secret = by_section["The webhook secret"]
        self._run(webhook_secret)
        self._run(by_section["The signing key"][0])
        (nats,) = by_section["NATS"]
        for user in SERVICES:
            self._run(replace_in(nats, "gateway", user))
        for user in OTHER_USERS:
            of_user = replace_in(nats, "nats/gateway", f"nats/{user}")
            self._run(replace_in(of_user, "nats gateway", "nats"))
        self._run(
            replace_in(replace_in(nats, "nats/gateway", "nats/route"), "nats gateway", "nats")
        )
        (postgres,) = by_section["PostgreSQL"]
        for service in SERVICES[1:]:
            self._run(replace_in(postgres, "ingest", service))
        statements = Block("PostgreSQL: postgres", postgres.commands[:2])
        self._run(replace_in(statements, "postgres/ingest", "postgres/postgres"))

    def rotate_operator_secrets(self) -> None:
        """Rotate the two secrets that an operator may set instead of having them generated."""
        by_section = sections(DOCUMENT.read_text())
        for block in (*by_section["The webhook secret"][:2], *by_section["The signing key"][1:]):
            self._run(block)

    def _admin_key(self, rotate: Block, retire: Block) -> None:
        before = self._key_file.read_text().strip()
        self._run(rotate)
        after = self._key_file.read_text().strip()
        self._expect({before: 200, after: 200})
        self._run(retire)
        self._expect({before: 401, after: 200})

    def _run(self, block: Block) -> None:
        commands = block.commands
        if self._cluster:
            commands = tuple(each for command in commands for each in in_cluster(command))
        self._checkout.run(Block(block.section, commands))
        self.wait_until_healthy()

    def wait_until_healthy(self) -> None:
        """Wait until every gateway reports a healthy deployment."""
        for gateway in self._gateways:
            self._checkout.wait_until_healthy(gateway)

    def _expect(self, status_by_key: Mapping[str, int]) -> None:
        for gateway in self._gateways:
            _expect(gateway, status_by_key)

    def _wait_for(self, script: str) -> None:
        self._checkout.bash(f"for i in $(seq 120); do {script} && exit 0; sleep 1; done; exit 1")


def _expect(gateway: str, status_by_key: Mapping[str, int]) -> None:
    for key, expected in status_by_key.items():
        headers = {"Authorization": f"Bearer {key}"}
        status = httpx.get(f"{gateway}/v1/admin/events", headers=headers, timeout=10).status_code
        if status != expected:
            raise SystemExit(f"the status for an admin key was {status} instead of {expected}")


def main() -> int:
    """Run the blocks of the document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--cluster", action="store_true")
    arguments = parser.parse_args()
    checkout = Checkout(arguments.work.resolve())
    checkout.prepare()
    env_file = checkout.directory / ".env"
    env_file.write_text(f"{SETTINGS}{':front.yaml' if arguments.cluster else ''}\n")
    (checkout.directory / "front.yaml").write_text(FRONT)
    checkout.bash("python3 deploy/generate_secrets.py; docker compose build")
    if arguments.cluster:
        checkout.bash(".venv/bin/hogsend compose layout cluster")
    checkout.bash("docker compose up -d")
    checkout.wait_until_healthy(status="degraded")
    rotation = Rotation(checkout, cluster=arguments.cluster)
    connect = sections(DOCUMENT.read_text())["The signing key"][0]
    connect = replace_in(connect, " --rotate-signing-key", "")
    checkout.run(connect)
    rotation.wait_until_healthy()
    stages: tuple[Callable[[], None], ...] = (rotation.rotate_all, rotation.rotate_operator_secrets)
    for stage in stages:
        with checkout.load("capture"):
            for _ in range(TIMES):
                stage()
        checkout.verify()
        with env_file.open("a") as file:
            file.writelines(f"{name}={word}\n" for name, word in OPERATOR_SECRETS.items())
        checkout.bash("docker compose up -d")
        rotation.wait_until_healthy()
        checkout.run(connect)
    checkout.verify_logs()
    say("every delivered event was stored and published")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Runs docs/rotation.md on a container engine: every secret of a deployment, changed twice.

python -m tests.engine.run_rotation WORK [--cluster]

The stack runs with the sandbox, which delivers events with the secret and the key that it was given
last, all the while. No delivery may be answered 401 or 403, and what was delivered has to be stored
and announced. First with what connecting minted, then with secrets that the operator set. With
`--cluster` in that layout: three NATS servers and two of each service, and PostHog reaches both
gateways by one name, as behind a proxy.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import httpx

from tests.engine.reader import GATEWAY, GATEWAY_2, ROOT, Block, Reader, blocks, say

DOCUMENT = ROOT / "docs" / "rotation.md"
TIMES = 2
SERVICES = ("gateway", "credentials", "provisioner", "ingest", "analytics")
OTHERS = ("subscriber", "app", "operator")
SET = {
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
"""Both gateways under one name."""


def sections(text: str) -> Mapping[str, list[Block]]:
    """The document's blocks under their headings."""
    found: dict[str, list[Block]] = {}
    for block in blocks(text):
        found.setdefault(block.section, []).append(block)
    return found


def renamed(block: Block, before: str, after: str) -> Block:
    """The same block for another service or user, as the document's reader would write it."""
    return Block(
        f"{block.section}: {after}",
        tuple(command.replace(before, after) for command in block.commands),
    )


def doubled(command: str) -> list[str]:
    """A command in the layout `cluster`, as the document tells its reader to write it there."""
    started = re.fullmatch(r"(docker compose up -d(?: --[a-z-]+)*)((?: [a-z]+)+)", command)
    if started is None:
        return [command]
    line, names = started[1], started[2].split()
    others = [one for name in names if name != "gateway" for one in replicas(name)]
    if "gateway" not in names:
        return [" ".join([line, *others])]
    wait = "" if "--wait" in line else " --wait"
    return [f"{line}{wait} {' '.join([*others, 'gateway-2'])}", f"{line}{wait} gateway"]


def replicas(name: str) -> Sequence[str]:
    """The containers of a service in the layout `cluster`."""
    return (name, f"{name}-2", f"{name}-3") if name == "nats" else (name, f"{name}-2")


class Rotation:
    """One deployment whose secrets are changed."""

    def __init__(self, reader: Reader, *, cluster: bool) -> None:
        self._reader = reader
        self._cluster = cluster
        self._gateways = (GATEWAY, GATEWAY_2) if cluster else (GATEWAY,)
        self._key_file = reader.directory / "deploy" / "secrets" / "gateway" / "admin_api_key"

    def minted(self) -> None:
        """Change everything that there is once PostHog is connected."""
        found = sections(DOCUMENT.read_text())
        self._admin_key(*found["Admin keys"])
        for block in found["`BETTER_AUTH_SECRET`"]:
            self._run(block)
            if "--rotate" in block.commands[0]:
                names = replicas("credentials") if self._cluster else ("credentials",)
                self._until(RESEALED.format(names=" ".join(names)))
        *_, webhook_secret = found["The webhook secret"]
        self._run(webhook_secret)
        self._run(found["The signing key"][0])
        (nats,) = found["NATS"]
        for user in SERVICES:
            self._run(renamed(nats, "gateway", user))
        for user in OTHERS:
            of_user = renamed(nats, "nats/gateway", f"nats/{user}")
            self._run(renamed(of_user, "nats gateway", "nats"))
        self._run(renamed(renamed(nats, "nats/gateway", "nats/route"), "nats gateway", "nats"))
        (postgres,) = found["PostgreSQL"]
        for service in SERVICES[1:]:
            self._run(renamed(postgres, "ingest", service))
        statements = Block("PostgreSQL: postgres", postgres.commands[:2])
        self._run(renamed(statements, "postgres/ingest", "postgres/postgres"))

    def set_by_the_operator(self) -> None:
        """Change the two that an operator may set instead of having them minted."""
        found = sections(DOCUMENT.read_text())
        for block in (*found["The webhook secret"][:2], *found["The signing key"][1:]):
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
            commands = tuple(one for command in commands for one in doubled(command))
        self._reader.run(Block(block.section, commands))
        self.wait_until_healthy()

    def wait_until_healthy(self) -> None:
        """Wait for every gateway."""
        for gateway in self._gateways:
            self._reader.wait_until_healthy(gateway)

    def _expect(self, wanted: Mapping[str, int]) -> None:
        for gateway in self._gateways:
            _expect(gateway, wanted)

    def _until(self, script: str) -> None:
        self._reader.bash(f"for i in $(seq 120); do {script} && exit 0; sleep 1; done; exit 1")


def _expect(gateway: str, wanted: Mapping[str, int]) -> None:
    for key, status in wanted.items():
        headers = {"Authorization": f"Bearer {key}"}
        found = httpx.get(f"{gateway}/v1/admin/events", headers=headers, timeout=10).status_code
        if found != status:
            raise SystemExit(f"an admin key was answered {found} instead of {status}")


def main() -> int:
    """Run the document."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--cluster", action="store_true")
    chosen = parser.parse_args()
    reader = Reader(chosen.work.resolve())
    reader.prepare()
    env_file = reader.directory / ".env"
    env_file.write_text(f"{SETTINGS}{':front.yaml' if chosen.cluster else ''}\n")
    (reader.directory / "front.yaml").write_text(FRONT)
    reader.bash("python3 deploy/generate_secrets.py; docker compose build")
    if chosen.cluster:
        reader.bash(".venv/bin/hogsend compose layout cluster")
    reader.bash("docker compose up -d")
    reader.wait_until_healthy(wanted="degraded")
    rotation = Rotation(reader, cluster=chosen.cluster)
    connect = sections(DOCUMENT.read_text())["The signing key"][0]
    connect = renamed(connect, " --rotate-signing-key", "")
    reader.run(connect)
    rotation.wait_until_healthy()
    stages: tuple[Callable[[], None], ...] = (rotation.minted, rotation.set_by_the_operator)
    for stage in stages:
        with reader.load("capture"):
            for _ in range(TIMES):
                stage()
        reader.verify()
        with env_file.open("a") as file:
            file.writelines(f"{name}={word}\n" for name, word in SET.items())
        reader.bash("docker compose up -d")
        rotation.wait_until_healthy()
        reader.run(connect)
    reader.verify_logs()
    say("everything that was delivered is there")
    return 0


if __name__ == "__main__":
    sys.exit(main())

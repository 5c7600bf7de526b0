"""One container after the other replaced by one of the current image: `hogsend compose upgrade`.

Two versions run side by side meanwhile, which every migration allows (docs/deploy.md). The next
container is only replaced when the one before works, so that a version that does not work stops the
upgrade at its first container.

Compose replaces a container when its image or its settings change, and does not look into mounted
files. A NATS server whose configuration is another than the one it runs with is replaced, too.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import msgspec
from nats.js.api import StreamInfo

from cli.deployment import servers
from cli.deployment.compose import Compose
from cli.deployment.layout import DOOR, SERVERS
from cli.errors import CommandError
from hogsend.service.bus_health import current_copies, is_without_leader

IN_ORDER = ("credentials", "provisioner", "ingest", "analytics")
"""The gateways come last: they take webhooks whatever becomes of the others."""
ALIVE = ("sh", "-c", "find \"$HEALTH_FILE\" -newermt '-15 seconds' | grep -q .")
SANDBOX = "sandbox"
"""The stand-in for PostHog, of deploy/sandbox.yaml."""
ANSWERS = (
    "python",
    "-c",
    "from urllib.request import urlopen; urlopen('http://127.0.0.1:8010/_sandbox/captured')",
)
CHECKED_CONFIGURATION = (
    'said=$(nats-server -t --config "${CONFIG:-/etc/nats/$LAYOUT.conf}" 2>&1) '
    '|| { echo "$said" >&2; exit 1; }; echo "$said"'
)
"""Prints the digest of a configuration that nats-server would start with."""
RUNNING_CONFIGURATION = "wget -qO- http://127.0.0.1:8222/varz"
"""Prints, among much else, the digest of the configuration that nats-server runs with."""
DIGEST = re.compile(r"\bsha256:[0-9a-f]{64}\b")
ATTEMPTS = 120
POLL_SECONDS = 0.5

Tell = Callable[[str], None]


class Replaced(msgspec.Struct, frozen=True):
    """One service, and how long it took until it worked, in seconds."""

    service: str
    seconds: float


class Upgrade:
    """One upgrade, of one deployment."""

    def __init__(self, compose: Compose, tell: Tell) -> None:
        """Work on a deployment, and tell each step."""
        self._compose = compose
        self._tell = tell
        self._door: str | None = None
        """Who has the port of the gateways, where they share one."""
        self._reconfigured: Sequence[str] = ()
        """NATS servers that run with another configuration than the one that is there."""

    def run(self, *, build: bool) -> list[Replaced]:
        """Replace every container of which there is a newer image, setting or configuration.

        Raises:
            CommandError: one does not work; those after it are as they were.
        """
        if "gateway" not in self._compose.running():
            raise CommandError(
                "there is nothing to replace: no gateway of this deployment runs",
                "start everything with `docker compose build` and `docker compose up -d`",
            )
        if build:
            self._tell("building the image")
            self._compose.run("build")
        self._tell("checking the settings")
        self._compose.run("run", "--rm", "--no-deps", "-T", "settings")
        present = self._compose.services()
        self._tell("checking the configuration of NATS")
        self._reconfigured = [name for name in SERVERS if name in present and self._differs(name)]
        self._door = DOOR if DOOR in present else None
        return [self._replace(name) for name in order(present)]

    def _replace(self, service: str) -> Replaced:
        self._tell(f"replacing {service}")
        began = time.monotonic()
        anew = ("--force-recreate",) if service in self._reconfigured else ()
        self._compose.run("up", "-d", "--no-deps", *anew, service)
        if service in SERVERS:
            asyncio.run(self._wait_for_copies())
        elif service == "postgres":
            self._wait(service, ("pg_isready", "-q", "-U", "postgres", "-d", "hogsend"))
        elif service == SANDBOX:
            self._wait(service, ANSWERS)
        elif service.startswith("gateway"):
            # Behind a shared port the other one may answer for it.
            self._wait(service, ALIVE)
            self._wait_for_gateway(service)
        else:
            self._wait(service, ALIVE)
            self._wait_for_health(service)
        return Replaced(service, round(time.monotonic() - began, 1))

    def _differs(self, server: str) -> bool:
        """Whether a server would start with another configuration than it runs with.

        Raises:
            CommandError: nats-server would not start with it at all.
        """
        wanted = self._compose.run(
            *("run", "--rm", "--no-deps", "-T", server, "sh", "-c", CHECKED_CONFIGURATION)
        )
        try:
            running = self._compose.run("exec", "-T", server, "sh", "-c", RUNNING_CONFIGURATION)
        except CommandError:
            return True
        found = DIGEST.search(wanted)
        return found is None or found[0] not in running

    async def _wait_for_copies(self) -> None:
        """Wait until every stream is on as many servers as it should be."""
        async with servers.operator(self._compose) as client:
            js = client.jetstream()
            for _ in range(ATTEMPTS):
                if all(_is_complete(info) for info in await js.streams_info()):
                    return
                await asyncio.sleep(POLL_SECONDS)
        raise _stuck("nats")

    def _wait(self, service: str, command: Sequence[str]) -> None:
        for _ in range(ATTEMPTS):
            try:
                self._compose.run("exec", "-T", service, *command)
            except CommandError:
                time.sleep(POLL_SECONDS)
            else:
                return
        raise _stuck(service)

    def _wait_for_gateway(self, service: str) -> None:
        """Wait until a gateway takes webhooks and its spool is empty."""
        base = self._address(service)
        for _ in range(ATTEMPTS):
            answer = _get(f"{base}/readyz")
            if answer.get("ready") is True and answer.get("spooled") == 0:
                return
            time.sleep(POLL_SECONDS)
        raise _stuck(service)

    def _wait_for_health(self, service: str) -> None:
        """Wait until a gateway gets an answer from a service."""
        base = self._address("gateway")
        name = service.removesuffix("-2")
        for _ in range(ATTEMPTS):
            if _get(f"{base}/v1/health").get("services", {}).get(name, {}).get("status") == "up":
                return
            time.sleep(POLL_SECONDS)
        raise _stuck(service)

    def _address(self, service: str) -> str:
        return f"http://{self._compose.published(self._door or service, 3002)}"


def order(present: Sequence[str]) -> list[str]:
    """The services to replace, in order: what others need first, the gateways last."""
    wanted = [
        *SERVERS,
        "postgres",
        SANDBOX,
        *(name for service in IN_ORDER for name in (service, f"{service}-2")),
        "gateway-2",
        "gateway",
    ]
    return [name for name in wanted if name in present]


def _is_complete(info: StreamInfo) -> bool:
    wanted = info.config.num_replicas or 1
    return not is_without_leader(info) and current_copies(info) >= wanted


def _get(url: str) -> dict[str, Any]:
    """The JSON object at an address; empty while there is none."""
    try:
        found = httpx.get(url, timeout=5.0, trust_env=False).json()
    except (httpx.HTTPError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _stuck(service: str) -> CommandError:
    return CommandError(
        f"{service} was replaced and does not work; what comes after it is as it was",
        f"look into `docker compose logs {service}`; then run this again, or go back to the "
        "version before and run it there",
    )

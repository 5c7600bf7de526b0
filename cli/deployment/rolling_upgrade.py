"""Replaces the containers of a deployment one after the other: `hogsend compose upgrade`.

Two versions run side by side during the upgrade, which every migration permits (docs/deploy.md). A
container is replaced only once the previous one is healthy, so a broken version stops the upgrade
at its first container.

Compose replaces a container if its image or its settings have changed, but ignores changes in
mounted files. Therefore a NATS server whose configuration file has changed is recreated explicitly.
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
from cli.deployment.layout import SERVERS, SHARED_PORT
from cli.errors import CommandError
from hogsend.service.bus_health import current_copies, is_without_leader

IN_ORDER = ("credentials", "provisioner", "ingest", "analytics")
"""The order of the services. The gateways come after them, and accept webhooks meanwhile."""
LIVENESS_CHECK = ("sh", "-c", "find \"$HEALTH_FILE\" -newermt '-15 seconds' | grep -q .")
SANDBOX = "sandbox"
"""The stand-in for PostHog, of deploy/sandbox.yaml."""
SANDBOX_CHECK = (
    "python",
    "-c",
    "from urllib.request import urlopen; urlopen('http://127.0.0.1:8010/_sandbox/captured')",
)
CHECKED_CONFIGURATION = (
    'output=$(nats-server -t --config "${CONFIG:-/etc/nats/$LAYOUT.conf}" 2>&1) '
    '|| { echo "$output" >&2; exit 1; }; echo "$output"'
)
"""Shell command that prints the digest of the configuration file, if it is valid."""
RUNNING_CONFIGURATION = "wget -qO- http://127.0.0.1:8222/varz"
"""Shell command whose output has the digest of the configuration that nats-server runs with."""
DIGEST = re.compile(r"\bsha256:[0-9a-f]{64}\b")
ATTEMPTS = 120
POLL_SECONDS = 0.5

Report = Callable[[str], None]
"""Prints the step that starts."""


class Replaced(msgspec.Struct, frozen=True):
    """A replaced service, and the seconds until it was healthy."""

    service: str
    seconds: float


class Upgrade:
    """An upgrade of one deployment."""

    def __init__(self, compose: Compose, report: Report) -> None:
        """Upgrade the deployment of `compose`, and report each step."""
        self._compose = compose
        self._report = report
        self._shared_port: str | None = None
        """The service with the port of the gateways, if two gateways share one."""
        self._reconfigured: Sequence[str] = ()
        """NATS servers whose configuration file has changed since their start."""

    def run(self, *, build: bool) -> list[Replaced]:
        """Replace every container whose image, settings or configuration have changed.

        Raises:
            CommandError: a replaced service is not healthy; later ones were not replaced.
        """
        if "gateway" not in self._compose.running():
            raise CommandError(
                "the deployment does not run: its gateway is not up",
                "start it with `docker compose build` and `docker compose up -d`",
            )
        if build:
            self._report("building the image")
            self._compose.run("build")
        self._report("checking the settings")
        self._compose.run("run", "--rm", "--no-deps", "-T", "settings")
        present = self._compose.services()
        self._report("checking the configuration of NATS")
        self._reconfigured = [
            name for name in SERVERS if name in present and self._is_reconfigured(name)
        ]
        self._shared_port = SHARED_PORT if SHARED_PORT in present else None
        return [self._replace(name) for name in order(present)]

    def _replace(self, service: str) -> Replaced:
        self._report(f"replacing {service}")
        started = time.monotonic()
        options = ("--force-recreate",) if service in self._reconfigured else ()
        self._compose.run("up", "-d", "--no-deps", *options, service)
        if service in SERVERS:
            asyncio.run(self._wait_for_replicas())
        elif service == "postgres":
            self._wait(service, ("pg_isready", "-q", "-U", "postgres", "-d", "hogsend"))
        elif service == SANDBOX:
            self._wait(service, SANDBOX_CHECK)
        elif service.startswith("gateway"):
            # Its own health first: on a shared port, the other gateway may respond to requests.
            self._wait(service, LIVENESS_CHECK)
            self._wait_for_gateway(service)
        else:
            self._wait(service, LIVENESS_CHECK)
            self._wait_for_health(service)
        return Replaced(service, round(time.monotonic() - started, 1))

    def _is_reconfigured(self, server: str) -> bool:
        """Whether a server's configuration file has changed since its start.

        Raises:
            CommandError: the configuration is invalid.
        """
        checked = self._compose.run(
            *("run", "--rm", "--no-deps", "-T", server, "sh", "-c", CHECKED_CONFIGURATION)
        )
        try:
            running = self._compose.run("exec", "-T", server, "sh", "-c", RUNNING_CONFIGURATION)
        except CommandError:
            return True
        digest = DIGEST.search(checked)
        return digest is None or digest[0] not in running

    async def _wait_for_replicas(self) -> None:
        """Wait until every stream has a leader and all its replicas are current."""
        async with servers.operator(self._compose) as client:
            js = client.jetstream()
            for _ in range(ATTEMPTS):
                if all(_is_complete(info) for info in await js.streams_info()):
                    return
                await asyncio.sleep(POLL_SECONDS)
        raise _unhealthy("nats")

    def _wait(self, service: str, command: Sequence[str]) -> None:
        for _ in range(ATTEMPTS):
            try:
                self._compose.run("exec", "-T", service, *command)
            except CommandError:
                time.sleep(POLL_SECONDS)
            else:
                return
        raise _unhealthy(service)

    def _wait_for_gateway(self, service: str) -> None:
        """Wait until a gateway accepts webhooks and its spool is empty."""
        base = self._address(service)
        for _ in range(ATTEMPTS):
            readiness = _get(f"{base}/readyz")
            if readiness.get("ready") is True and readiness.get("spooled") == 0:
                return
            time.sleep(POLL_SECONDS)
        raise _unhealthy(service)

    def _wait_for_health(self, service: str) -> None:
        """Wait until the gateway's health document reports that a service is up."""
        base = self._address("gateway")
        name = service.removesuffix("-2")
        for _ in range(ATTEMPTS):
            if _get(f"{base}/v1/health").get("services", {}).get(name, {}).get("status") == "up":
                return
            time.sleep(POLL_SECONDS)
        raise _unhealthy(service)

    def _address(self, service: str) -> str:
        return f"http://{self._compose.published(self._shared_port or service, 3002)}"


def order(present: Sequence[str]) -> list[str]:
    """Return the services in the order of their replacement.

    NATS and PostgreSQL, which the others need, come first; the gateways come last.
    """
    all_services = [
        *SERVERS,
        "postgres",
        SANDBOX,
        *(name for service in IN_ORDER for name in (service, f"{service}-2")),
        "gateway-2",
        "gateway",
    ]
    return [name for name in all_services if name in present]


def _is_complete(info: StreamInfo) -> bool:
    replicas = info.config.num_replicas or 1
    return not is_without_leader(info) and current_copies(info) >= replicas


def _get(url: str) -> dict[str, Any]:
    """Return the JSON object at a URL; empty if there is none or no response."""
    try:
        document = httpx.get(url, timeout=5.0, trust_env=False).json()
    except (httpx.HTTPError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _unhealthy(service: str) -> CommandError:
    return CommandError(
        f"{service} was replaced and is not healthy; the services after it were not replaced",
        f"see `docker compose logs {service}`, fix the problem and run this command again; or "
        "check out the previous version and run it there",
    )

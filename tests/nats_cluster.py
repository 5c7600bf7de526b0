"""A cluster of three NATS servers on this machine, which a test can kill and restart."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from cli.stack import nats
from hogsend.contract.accounts import OWN
from hogsend.contract.users import User
from tests.ports import free_port
from tests.servers import Servers
from tests.waiting import eventually

COUNT = 3
ROUTE_PASSWORD = "password-of-route"


@dataclass(frozen=True)
class Ports:
    """The ports of one NATS server."""

    client: int
    advertised: int
    """The client port that the server advertises to clients."""
    route: int
    monitoring: int


def write_cluster_config(
    directory: Path, number: int, ports: Sequence[Ports], passwords: dict[User, str]
) -> Path:
    """Write the configuration of one server and return its file; the first server is number 1."""
    own, config = ports[number - 1], directory / f"nats-{number}.conf"
    nats.write_config(
        config, port=own.client, store=directory / f"nats-{number}", passwords=passwords
    )
    settings = json.loads(config.read_text())
    settings["jetstream"]["sync_interval"] = nats.CLUSTER_SYNC_INTERVAL
    # As in deploy/nats/cluster-accounts.conf.
    settings["ping_interval"] = nats.PING_INTERVAL
    settings["accounts"][OWN]["jetstream"] = "enabled"
    settings |= {
        "server_name": f"nats-{number}",
        "client_advertise": f"127.0.0.1:{own.advertised}",
        "http": f"127.0.0.1:{own.monitoring}",
        "cluster": {
            "name": "hogsend",
            "listen": f"127.0.0.1:{own.route}",
            "authorization": {"user": "route", "password": ROUTE_PASSWORD, "timeout": 5},
            "routes": [
                f"nats-route://route:{ROUTE_PASSWORD}@127.0.0.1:{port.route}" for port in ports
            ],
        },
    }
    config.write_text(json.dumps(settings))
    return config


class NatsCluster(Servers):
    """Three servers, which are started and killed one by one."""

    def __init__(self, directory: Path) -> None:
        """Write the configurations to `directory` without starting a server."""
        ports = []
        for _ in range(COUNT):
            client = free_port()
            ports.append(Ports(client, client, free_port(), free_port()))
        super().__init__(ports[0].client, "")
        passwords = {user: f"password-of-{user}" for user in User}
        self.ports = ports
        self._configs = {
            f"nats-{number}": write_cluster_config(directory, number, ports, passwords)
            for number in range(1, COUNT + 1)
        }
        self._log = directory / "log"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def nats_url(self, user: User) -> str:
        """Return the addresses of all servers with a user's credentials."""
        password = f"password-of-{user}"
        return ",".join(nats.url(user, password, port.client) for port in self.ports)

    def start(self, *names: str) -> None:
        """Start the named servers, or all."""
        with self._log.open("ab") as log:
            for name in names or self._configs:
                command = nats.command(self._configs[name])
                self._processes[name] = subprocess.Popen(command, stderr=log)

    def kill(self, *names: str) -> None:
        """Kill the named servers, or all that run, with SIGKILL, and wait until they have ended."""
        for process in [self._processes.pop(name) for name in names or list(self._processes)]:
            process.kill()
            process.wait(60)

    async def is_healthy(self) -> bool:
        """Whether all servers report that they are healthy."""
        async with httpx.AsyncClient(timeout=5) as http:
            for port in self.ports:
                try:
                    answer = await http.get(f"http://127.0.0.1:{port.monitoring}/healthz")
                except httpx.HTTPError:
                    return False
                if not answer.is_success:
                    return False
        return True


@asynccontextmanager
async def nats_cluster() -> AsyncIterator[NatsCluster]:
    """Run three servers, and delete their data afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="hogsend-cluster-"))
    cluster = NatsCluster(directory)
    try:
        cluster.start()
        await eventually(cluster.is_healthy, 60)
        yield cluster
    finally:
        await asyncio.to_thread(cluster.kill)
        shutil.rmtree(directory, ignore_errors=True)

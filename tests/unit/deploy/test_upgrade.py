"""An upgrade replaces one container after the other, and stops at the first unhealthy one."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from nats.js.api import ClusterInfo, PeerInfo, StreamConfig

from cli.deployment import rolling_upgrade
from cli.deployment.compose import Compose
from cli.deployment.layout import SERVERS
from cli.deployment.rolling_upgrade import Upgrade
from cli.errors import CommandError

SINGLE = ["settings", "gateway", "nats", "postgres", "analytics", "credentials"]
CLUSTER = [*SINGLE, "nats-2", "gateway-2", "analytics-2", "credentials-2"]
CONFIGURATION = f"sha256:{'a' * 64}"


class Engine(Compose):
    """A deployment whose containers are healthy at once, except for `broken`."""

    def __init__(self, directory: Path, services: list[str]) -> None:
        (directory / "compose.yaml").touch()
        super().__init__(directory)
        self._services = services
        self.broken = ""
        self.running_now = "gateway\nnats"
        self.replaced: list[str] = []
        self.recreated: list[str] = []
        self.runs_with = dict.fromkeys(SERVERS, CONFIGURATION)
        self.refused_configuration = ""
        self.ran: list[str] = []

    def run(self, *arguments: str, **_: Any) -> str:
        self.ran.append(arguments[0])
        match arguments:
            case ["--profile", "cluster", "ps", *_]:
                return self.running_now
            case ["config", "--services"]:
                return "\n".join(self._services)
            case ["up", "-d", "--no-deps", *options, service]:
                self.replaced.append(service)
                self.recreated += [service] if options == ["--force-recreate"] else []
            case [*_, "-T", server, "sh", "-c", rolling_upgrade.CHECKED_CONFIGURATION]:
                return self._checked_configuration(server)
            case ["exec", "-T", server, "sh", "-c", rolling_upgrade.RUNNING_CONFIGURATION]:
                return self._running_configuration(server)
            case ["exec", "-T", service, *_] if service == self.broken:
                raise CommandError("it does not run", "look")
            case ["--profile", "cluster", "port", service, _]:
                if "door" in self._services and service != "door":
                    raise CommandError("no port 3002/tcp", "look")
                return f"{service}:3002"
        return ""

    def _checked_configuration(self, server: str) -> str:
        if server == self.refused_configuration:
            raise CommandError("variable reference for 'PASSWORD_NEW' can not be found", "look")
        return f"configuration file is valid ({CONFIGURATION})"

    def _running_configuration(self, server: str) -> str:
        if not self.runs_with[server]:
            raise CommandError("it does not run", "look")
        return f'{{"config_digest": "{self.runs_with[server]}"}}'


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace every wait: gateways are ready and services are up at once."""

    async def complete(_upgrade: Upgrade) -> None:
        pass

    def get(url: str) -> dict[str, Any]:
        if url.endswith("/readyz"):
            return {"ready": True, "spooled": 0}
        return {"services": {name: {"status": "up"} for name in rolling_upgrade.IN_ORDER}}

    monkeypatch.setattr(Upgrade, "_wait_for_replicas", complete)
    monkeypatch.setattr(rolling_upgrade, "_get", get)
    monkeypatch.setattr(rolling_upgrade, "POLL_SECONDS", 0)


def ignore_progress(_text: str) -> None:
    pass


def test_containers_are_replaced_one_after_the_other_and_gateways_last(tmp_path: Path) -> None:
    engine = Engine(tmp_path, CLUSTER)
    done = Upgrade(engine, ignore_progress).run(build=True)
    assert engine.replaced == [
        *("nats", "nats-2", "postgres"),
        *("credentials", "credentials-2", "analytics", "analytics-2"),
        *("gateway-2", "gateway"),
    ]
    assert [step.service for step in done] == engine.replaced
    # The image is built and the settings are checked before the first container is replaced.
    assert engine.ran[:4] == ["--profile", "build", "run", "config"]


def test_the_stand_in_for_posthog_is_replaced_before_the_services_that_call_it(
    tmp_path: Path,
) -> None:
    engine = Engine(tmp_path, [*SINGLE, "sandbox"])
    Upgrade(engine, ignore_progress).run(build=False)
    assert engine.replaced[1:4] == ["postgres", "sandbox", "credentials"]
    engine.broken = "sandbox"
    with pytest.raises(CommandError, match="sandbox was replaced and is not healthy"):
        Upgrade(engine, ignore_progress).run(build=False)
    assert engine.replaced[-1] == "sandbox"


def test_an_upgrade_stops_at_an_unhealthy_container(tmp_path: Path) -> None:
    engine = Engine(tmp_path, SINGLE)
    engine.broken = "credentials"
    with pytest.raises(CommandError, match="credentials was replaced and is not healthy"):
        Upgrade(engine, ignore_progress).run(build=False)
    assert engine.replaced == ["nats", "postgres", "credentials"]
    assert "build" not in engine.ran


def test_a_nats_server_is_recreated_when_only_its_configuration_has_changed(tmp_path: Path) -> None:
    engine = Engine(tmp_path, CLUSTER)
    Upgrade(engine, ignore_progress).run(build=False)
    assert engine.recreated == []
    engine.runs_with["nats-2"] = f"sha256:{'b' * 64}"
    Upgrade(engine, ignore_progress).run(build=False)
    assert engine.recreated == ["nats-2"]
    # The configuration of a server that does not run is unknown, so the server is recreated.
    engine.runs_with["nats"] = ""
    Upgrade(engine, ignore_progress).run(build=False)
    assert engine.recreated == ["nats-2", "nats", "nats-2"]


def test_no_container_is_replaced_when_nats_refuses_its_configuration(
    tmp_path: Path,
) -> None:
    engine = Engine(tmp_path, CLUSTER)
    engine.refused_configuration = "nats-2"
    with pytest.raises(CommandError, match="PASSWORD_NEW"):
        Upgrade(engine, ignore_progress).run(build=False)
    assert engine.replaced == []


def test_each_gateway_behind_one_port_is_replaced_and_must_be_healthy(tmp_path: Path) -> None:
    engine = Engine(tmp_path, [*SINGLE, "gateway-2", "door"])
    Upgrade(engine, ignore_progress).run(build=False)
    assert engine.replaced[-2:] == ["gateway-2", "gateway"]
    assert "door" not in engine.replaced
    engine.broken = "gateway-2"
    with pytest.raises(CommandError, match="gateway-2 was replaced and is not healthy"):
        Upgrade(engine, ignore_progress).run(build=False)
    assert engine.replaced[-1] == "gateway-2"


def test_a_deployment_that_does_not_run_is_not_upgraded(tmp_path: Path) -> None:
    engine = Engine(tmp_path, SINGLE)
    engine.running_now = "nats"
    with pytest.raises(CommandError, match="the deployment does not run"):
        Upgrade(engine, ignore_progress).run(build=True)
    assert engine.replaced == []
    assert "build" not in engine.ran


def test_a_stream_without_a_leader_is_not_complete() -> None:
    peers = [PeerInfo(name=name, current=True, offline=False) for name in SERVERS]
    config = StreamConfig(num_replicas=3)
    led = Mock(config=config, cluster=ClusterInfo(leader="nats-1", replicas=peers[1:]))
    # Without a leader, the server that replies lists itself as a replica, so there are three.
    elected = Mock(config=config, cluster=ClusterInfo(leader=None, replicas=peers))
    assert rolling_upgrade._is_complete(led)
    assert not rolling_upgrade._is_complete(elected)

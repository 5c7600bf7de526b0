"""`hogsend compose` reaches the NATS servers of a deployment as the operator."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from cli.deployment import servers as deployed
from cli.deployment.compose import Compose
from cli.errors import CommandError
from hogsend.contract.errors import Unavailable
from hogsend.contract.users import User
from tests.servers import Servers


class Deployment(Compose):
    """A deployment whose NATS is the test server."""

    def __init__(self, directory: Path, port: int) -> None:
        (directory / "compose.yaml").touch()
        super().__init__(directory)
        self._port = port

    def published(self, service: str, port: int) -> str:
        assert (service, port) == ("nats", deployed.EVERYDAY_PORT)
        return f"127.0.0.1:{self._port}"

    def write_password(self, password: str) -> None:
        file = self.secrets / "operator" / "nats_password"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{password}\n")


@pytest.fixture
def deployment(servers: Servers, tmp_path: Path) -> Deployment:
    deployment = Deployment(tmp_path, servers.nats_port)
    deployment.write_password(urlsplit(servers.nats_url(User.OPERATOR)).password or "")
    return deployment


async def test_tls_files_of_the_containers_are_not_opened(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NATS_TLS_CA", "/etc/hogsend/tls/ca.pem")
    async with deployed.operator(deployment) as client:
        assert client.is_connected


@pytest.mark.parametrize("password", ["of-another-user", "of,another@user/%41"])
async def test_a_password_that_nats_refuses_is_reported_at_once(
    deployment: Deployment, password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployed, "ATTEMPTS", 1)
    deployment.write_password(password)
    with pytest.raises(CommandError, match="refuses the password"):
        async with deployed.operator(deployment):
            pass


async def test_an_error_during_the_use_of_a_connection_is_not_reported_as_a_missing_server(
    deployment: Deployment,
) -> None:
    with pytest.raises(Unavailable, match="in the middle"):
        async with deployed.operator(deployment):
            raise Unavailable("in the middle of a backup")

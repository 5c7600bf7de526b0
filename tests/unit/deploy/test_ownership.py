"""A backup or move is refused unless it covers the servers that the services use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cli.deployment.backup import ComposeSource
from cli.deployment.compose import Compose
from cli.deployment.layout import Layout
from cli.deployment.layout_move import Move
from cli.errors import CommandError


class Engine(Compose):
    """A deployment whose PostgreSQL reports `connected` as the users that are connected to it."""

    connected = "credentials"

    def run(self, *arguments: str, **_: Any) -> str:
        return self.connected if "psql" in arguments else ""


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    (tmp_path / "compose.yaml").touch()
    write_database_url(tmp_path, "postgres")
    return Engine(tmp_path)


def write_database_url(deployment: Path, host: str) -> None:
    file = deployment / "deploy" / "secrets" / "ingest" / "database_url"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"postgresql://ingest:word@{host}:5432/hogsend\n")


async def save(engine: Engine) -> None:
    async with ComposeSource(engine).operator():
        pass


async def test_streams_on_nats_servers_outside_the_deployment_are_not_omitted_silently(
    engine: Engine,
) -> None:
    engine.env_file.path.write_text("HOGSEND_NATS_URL=tls://a.internal,tls://b.internal\n")
    with pytest.raises(CommandError, match="on the NATS servers in HOGSEND_NATS_URL") as refused:
        await save(engine)
    assert "hogsend streams backup" in refused.value.fix
    with pytest.raises(CommandError, match="on the NATS servers in HOGSEND_NATS_URL") as refused:
        Move(engine, print).to(Layout.CLUSTER)
    assert "HOGSEND_NATS_URL" in refused.value.fix
    assert engine.env_file.values()["HOGSEND_NATS_URL"] == "tls://a.internal,tls://b.internal"


async def test_the_postgresql_of_compose_is_not_saved_while_services_use_another_one(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nats(*_: Any) -> str:
        raise CommandError("NATS is next", "")

    monkeypatch.setattr(engine, "published", nats)
    (engine.secrets / "operator").mkdir()
    (engine.secrets / "operator" / "nats_password").write_text("word")
    with pytest.raises(CommandError, match="NATS is next"):
        await save(engine)
    write_database_url(engine.directory, "db.example.com")
    with pytest.raises(CommandError, match=r"PostgreSQL at db\.example\.com"):
        await save(engine)
    # A service is connected, so the address is that of a pooler in front of this PostgreSQL.
    engine.connected = "credentials\ningest"
    with pytest.raises(CommandError, match="NATS is next"):
        await save(engine)

"""A backup is refused if the services use external servers."""

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
    """A Compose whose PostgreSQL has sessions of some services."""

    connected = "credentials"

    def run(self, *arguments: str, **_: Any) -> str:
        return self.connected if "psql" in arguments else ""


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    (tmp_path / "compose.yaml").touch()
    address(tmp_path, "postgres")
    return Engine(tmp_path)


def address(deployment: Path, host: str) -> None:
    file = deployment / "deploy" / "secrets" / "ingest" / "database_url"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"postgresql://ingest:word@{host}:5432/hogsend\n")


async def save(engine: Engine) -> None:
    async with ComposeSource(engine).operator():
        pass


async def test_streams_on_servers_of_ones_own_are_not_left_out_without_a_word(
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


async def test_a_postgresql_that_no_service_uses_is_not_saved_in_place_of_the_other(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nats(*_: Any) -> str:
        raise CommandError("NATS is next", "")

    monkeypatch.setattr(engine, "published", nats)
    (engine.secrets / "operator").mkdir()
    (engine.secrets / "operator" / "nats_password").write_text("word")
    with pytest.raises(CommandError, match="NATS is next"):
        await save(engine)
    address(engine.directory, "db.example.com")
    with pytest.raises(CommandError, match=r"PostgreSQL at db\.example\.com"):
        await save(engine)
    # A pooler before the one of compose.yaml.
    engine.connected = "credentials\ningest"
    with pytest.raises(CommandError, match="NATS is next"):
        await save(engine)

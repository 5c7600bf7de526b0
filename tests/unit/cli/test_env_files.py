"""The env files with NATS URLs that the local stack writes for external services."""

from __future__ import annotations

from pathlib import Path

from dotenv import dotenv_values

from cli.stack.data_directory import DataDirectory
from cli.stack.settings import ALL_SETTINGS, StackSettings
from cli.stack.stack import Stack
from cli.stack.supervisor import Supervisor
from services.gateway.settings import GatewaySettings


def test_a_renamed_nats_user_keeps_its_password_and_its_env_file(tmp_path: Path) -> None:
    home = DataDirectory(tmp_path / "home")
    (home.path / "secrets").mkdir()
    (home.path / "secrets" / "nats-member").write_text("from-an-earlier-version\n")
    supervisor = Supervisor(home.logs, lambda _name, _what: None)
    stack = Stack(home, GatewaySettings(), StackSettings(nats_port=4229), supervisor)
    stack.write_env_files()
    member_env = (home.path / "member.env").read_text()
    assert member_env.startswith(
        "# Deprecated: use app.env\nNATS_URL=nats://member:from-an-earlier-"
    )
    password = (home.path / "secrets" / "nats-app").read_text().strip()
    assert dotenv_values(home.path / "app.env") == {
        "NATS_URL": f"nats://app:{password}@127.0.0.1:4229",
        "NATS_SERVER": "nats://127.0.0.1:4229",
        "NATS_USERNAME": "app",
        "NATS_PASS": password,
        "NATS_INBOX_PREFIX": "_INBOX_app",
    }
    settings = {name for group in ALL_SETTINGS for name in group.environment_names()}
    assert settings & dotenv_values(home.path / "app.env").keys() == {"NATS_URL"}
    assert password != "from-an-earlier-version"

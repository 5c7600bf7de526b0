"""The demo ignores the operator's settings."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cli.commands.demo import _configure
from cli.stack.settings import StackSettings, problems
from services.gateway.settings import GatewaySettings


@pytest.mark.parametrize("name", ["DATABASE_URL", "database_url", "Nats_Url"])
def test_the_demo_removes_the_operators_settings_in_any_case(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", {"PATH": os.environ["PATH"], name: "from-the-operator"})
    _configure(GatewaySettings(), StackSettings(hogsend_home=tmp_path))
    assert name not in os.environ
    assert problems() == []

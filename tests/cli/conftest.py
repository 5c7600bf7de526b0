"""The command line against fake servers in this process, never against PostHog or a real stack."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.connect import loopback
from cli.console import out
from cli.stack.settings import ALL_SETTINGS
from tests.cli.fakes import FakeHogsend, FakePostHog
from tests.cli.running import Cli
from tests.ports import free_port
from tests.running_stack import PYTHONPATH

BROWSER = Path(__file__).with_name("browser.py")
CLI_VARIABLES = ("HOGSEND_API_URL", "HOGSEND_ADMIN_KEY", "DISPLAY", "WAYLAND_DISPLAY", "BROWSER")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Remove the settings and `./.env`; use a browser that follows every URL by itself."""
    settings = {name for group in ALL_SETTINGS for name in group.environment_names()}
    for name in (*settings, *CLI_VARIABLES, "SSH_CONNECTION", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BROWSER", f"{sys.executable} {BROWSER} %s")
    monkeypatch.setenv("PYTHONPATH", PYTHONPATH)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def posthog() -> Iterator[FakePostHog]:
    fake = FakePostHog()
    with fake.running():
        yield fake


@pytest.fixture
def hogsend(posthog: FakePostHog) -> Iterator[FakeHogsend]:
    fake = FakeHogsend()
    fake.info["privateHost"] = posthog.url
    with fake.running():
        yield fake


@pytest.fixture
def callback_ports(monkeypatch: pytest.MonkeyPatch) -> tuple[int, ...]:
    """Use three free callback ports instead of the real ones, which other tests may use."""
    ports = (free_port(), free_port(), free_port())
    monkeypatch.setattr(loopback, "CALLBACK_PORTS", ports)
    return ports


@pytest.fixture
def cli(
    hogsend: FakeHogsend, callback_ports: tuple[int, ...], capfd: pytest.CaptureFixture[str]
) -> Cli:
    """The command in this process, with the URL of the fake server."""
    return Cli(hogsend.url, capfd)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """A terminal on stdin and stdout. Write to this to type on it."""
    typed = io.StringIO()
    monkeypatch.setattr(typed, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", typed)
    monkeypatch.setattr(out, "_force_terminal", True)
    monkeypatch.setattr(out, "_width", 80)
    return typed

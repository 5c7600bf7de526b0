"""The command line against small servers in this process; never against PostHog or a real stack."""

from __future__ import annotations

import fcntl
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.stack.settings import ALL_SETTINGS
from tests.cli.fakes import FakeHogsend, FakePostHog
from tests.cli.running import Cli

FOLLOW = Path(__file__).with_name("follow.py")
READ_BY_THE_CLI = ("HOGSEND_API_URL", "HOGSEND_ADMIN_KEY", "DISPLAY", "WAYLAND_DISPLAY", "BROWSER")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the machine, no `./.env`, and a browser that follows the address by itself."""
    known = {name for group in ALL_SETTINGS for name in group.environment_names()}
    for name in (*known, *READ_BY_THE_CLI, "SSH_CONNECTION", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BROWSER", f"{sys.executable} {FOLLOW} %s")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
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
def callback_ports() -> Iterator[None]:
    """The three real callback ports, for one test on this machine at a time."""
    lock = Path(tempfile.gettempdir()) / "hogsend-callback-ports.lock"
    descriptor = os.open(lock, os.O_CREAT | os.O_RDWR, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@pytest.fixture
def cli(hogsend: FakeHogsend, callback_ports: None, capfd: pytest.CaptureFixture[str]) -> Cli:
    """The command in this process, pointed at the fake server."""
    return Cli(hogsend.url, capfd)

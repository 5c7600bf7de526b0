"""Fixtures every test may use: real servers once a worker, a fresh database and bus for each test.

Tests run in parallel workers (pytest-xdist), each with servers of its own.
"""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import hypothesis
import pytest

from tests.servers import Servers, running_servers

WHOLE_STACKS = [Path(__file__).with_name(name) for name in ("e2e", "chaos")]
THAT_FAIL = {"test_slice", "test_full", "test_backup", "test_lost_disk", "test_shutdown", "test_up"}
"""Whole stacks that are killed, filled up and restored; the others are only used."""

# Services and commands are started hundreds of times, and every worker imports every test: each
# would compile all of it anew where the environment says not to keep what was compiled, as that of
# many containers does.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Chosen with `--hypothesis-profile`; `make fuzz` is thorough.
hypothesis.settings.register_profile("quick", max_examples=100, deadline=None)
hypothesis.settings.register_profile("thorough", max_examples=5000, deadline=None)
hypothesis.settings.load_profile("quick")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say which tests have to run in one worker, one after the other; before xdist asks.

    Whole stacks are a dozen processes each: more than two at once would only slow each other down
    until something takes too long. What is made once for a module is made in one worker.
    """
    for item in items:
        if item.get_closest_marker("xdist_group"):
            continue
        if any(item.path.is_relative_to(directory) for directory in WHOLE_STACKS):
            does = "fail" if item.path.stem in THAT_FAIL else "are used"
            item.add_marker(pytest.mark.xdist_group(f"stacks that {does}"))
        elif isinstance(item, pytest.Function) and any(
            definition.scope == "module"
            for definitions in item._fixtureinfo.name2fixturedefs.values()
            for definition in definitions
        ):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


def pytest_collection_finish() -> None:
    """Search for garbage among what tests make, and not among thousands of tests and modules."""
    gc.collect()
    gc.freeze()


class _Progress:
    """Names a failure when it happens; its traceback comes at the end."""

    def __init__(self, terminal: pytest.TerminalReporter) -> None:
        self._terminal = terminal

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._terminal.ensure_newline()
            self._terminal.write_line(f"FAILED {report.nodeid} ({report.when})", red=True)


class _OwnDirectory:
    """The directory above every `tmp_path`; kept when something failed.

    Pytest's own is below one that every run of a user closes to others when it starts, while
    PostgreSQL, started by root, is another user that works in there.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._directory = tempfile.mkdtemp(prefix="hogsend-pytest-")
        config.option.basetemp = self._directory

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, exitstatus: int) -> None:
        if exitstatus == pytest.ExitCode.OK:
            shutil.rmtree(self._directory, ignore_errors=True)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Let Ctrl-C end what tests start, and give a run, not each worker, a directory of its own."""
    # A shell has what it runs in the background ignore Ctrl-C, and every child with it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.option.basetemp is None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_OwnDirectory(config))


def pytest_sessionstart(session: pytest.Session) -> None:
    """Report progress where results are reported."""
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None and not hasattr(session.config, "workerinput"):
        session.config.pluginmanager.register(_Progress(terminal))


@pytest.fixture(scope="session")
async def servers() -> AsyncIterator[Servers]:
    """Real nats-server and PostgreSQL, for everything this worker runs."""
    async with running_servers() as running:
        yield running


@pytest.fixture
async def database_url(servers: Servers) -> AsyncIterator[str]:
    """An empty database for one test."""
    async with servers.fresh_database() as url:
        yield url


@pytest.fixture
async def fresh_bus(servers: Servers) -> None:
    """No streams on the bus."""
    await servers.empty_bus()

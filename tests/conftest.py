"""Fixtures for all tests: real servers for each worker, an empty database and bus for each test.

Tests run in parallel workers (pytest-xdist), each with its own servers.
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
DESTRUCTIVE = {
    *("test_slice", "test_full", "test_backup", "test_lost_disk", "test_shutdown", "test_up"),
}
"""Modules whose tests kill, fill up or restore a whole stack; the others only use one."""

# Services and commands are started hundreds of times, and every worker imports all tests. Many
# containers disable Python's bytecode cache, so that all of them would compile every module again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Chosen with `--hypothesis-profile`; `make fuzz` is thorough.
hypothesis.settings.register_profile("quick", max_examples=100, deadline=None)
hypothesis.settings.register_profile("thorough", max_examples=5000, deadline=None)
hypothesis.settings.load_profile("quick")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group tests that must run one after the other in one worker; runs before xdist distributes.

    A whole stack has a dozen processes. More than two at a time would slow each other down until
    something times out. Tests that share a fixture of their module run in one worker, too.
    """
    for item in items:
        if item.get_closest_marker("xdist_group"):
            continue
        if any(item.path.is_relative_to(directory) for directory in WHOLE_STACKS):
            group = "destructive" if item.path.stem in DESTRUCTIVE else "used"
            item.add_marker(pytest.mark.xdist_group(f"stacks: {group}"))
        elif isinstance(item, pytest.Function) and any(
            definition.scope == "module"
            for definitions in item._fixtureinfo.name2fixturedefs.values()
            for definition in definitions
        ):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


def pytest_collection_finish() -> None:
    """Exclude the thousands of collected tests and modules from garbage collection."""
    gc.collect()
    gc.freeze()


class _Progress:
    """Prints the name of each failed test at once; the traceback follows at the end of the run."""

    def __init__(self, terminal: pytest.TerminalReporter) -> None:
        self._terminal = terminal

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._terminal.ensure_newline()
            self._terminal.write_line(f"FAILED {report.nodeid} ({report.when})", red=True)


class _BaseDirectory:
    """The base directory of every `tmp_path`; removed unless a test failed.

    Pytest's default is below a directory of which each run removes the permissions of other users.
    PostgreSQL, when root starts it, runs as another user and needs access.
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
    """Make SIGINT work in the processes that tests start, and create the base directory."""
    # A shell starts background jobs with SIGINT ignored, and their children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Only in the main process; its workers use the same directory.
    if config.option.basetemp is None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_BaseDirectory(config))


def pytest_sessionstart(session: pytest.Session) -> None:
    """Print failures at once, in the process that prints the results."""
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None and not hasattr(session.config, "workerinput"):
        session.config.pluginmanager.register(_Progress(terminal))


@pytest.fixture(scope="session")
async def servers() -> AsyncIterator[Servers]:
    """A real nats-server and PostgreSQL, for all tests of this worker."""
    async with running_servers() as running:
        yield running


@pytest.fixture
async def database_url(servers: Servers) -> AsyncIterator[str]:
    """An empty database for one test."""
    async with servers.fresh_database() as url:
        yield url


@pytest.fixture
async def fresh_bus(servers: Servers) -> None:
    """Delete all streams before the test."""
    await servers.empty_bus()

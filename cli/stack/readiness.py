"""Waits until a started program is ready; if it fails, reports the end of its log."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx

from cli.errors import CommandError
from cli.stack.supervisor import Supervisor

READY_SECONDS = 60.0
POLL_SECONDS = 0.1
LOG_LINES = 15
_ERROR, _FIX = "error: ", "  fix: "
"""Prefixes of the last lines of a service that reports why it cannot start
(`services/__main__.py`)."""
MAX_FAILURES = 3
"""Number of ends before it was ready after which a program counts as failed."""


async def wait_until_ready(
    supervisor: Supervisor, name: str, is_ready: Callable[[], Awaitable[bool]]
) -> None:
    """Poll until a program is ready.

    Raises:
        CommandError: the program reported why it cannot start, ended `MAX_FAILURES` times, or was
            not ready within `READY_SECONDS`.
    """
    log = supervisor.log_file(name)
    try:
        async with asyncio.timeout(READY_SECONDS):
            while supervisor.failures[name] < MAX_FAILURES:
                if await is_ready():
                    return
                if supervisor.failures[name] and (reported := _reported_error(log)) is not None:
                    raise CommandError(*reported)
                await asyncio.sleep(POLL_SECONDS)
        problem = f"{name} exits right after its start"
    except TimeoutError:
        problem = f"{name} was not ready within {READY_SECONDS:.0f} s"
    lines = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
    raise CommandError("\n  ".join([f"{problem}; the end of {log}:", *lines]), _hint())


def _reported_error(log: Path) -> tuple[str, str] | None:
    """Return the problem and fix that a service logged before it exited; None if it logged none.

    A service that logs them would fail at every further start too.
    """
    lines = log.read_text(errors="replace").rstrip().splitlines()[-2:]
    problem, fix = lines if len(lines) == 2 and lines[1].startswith(_FIX) else (*lines[-1:], "")  # noqa: PLR2004
    if not problem.startswith(_ERROR):
        return None
    return problem.removeprefix(_ERROR), fix.removeprefix(_FIX) or "correct that, then start again"


async def is_listening(port: int) -> bool:
    """Whether a port on 127.0.0.1 accepts connections."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


async def is_success(http: httpx.AsyncClient, path: str) -> bool:
    """Whether a GET request to a path of the gateway succeeds."""
    try:
        return (await http.get(path)).is_success
    except httpx.HTTPError:
        return False


async def is_up(http: httpx.AsyncClient, service: str) -> bool:
    """Whether the gateway reports that a service and its database are up."""
    try:
        health: dict[str, Any] = (await http.get("/v1/health")).json()
    except (httpx.HTTPError, ValueError):
        return False
    part = health["services"][service]
    return bool(part["status"] == "up" and part["database"] == "up")


def _hint() -> str:
    external = [name for name in ("NATS_URL", "DATABASE_URL") if os.environ.get(name)]
    if external:
        settings = " and ".join(external)
        return (
            f"check that this machine reaches {settings}, and that the users in these settings "
            "have the permissions that the services need"
        )
    return "fix the problem in the log, then start again; the data is kept"

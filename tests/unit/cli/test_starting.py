"""Errors of `hogsend up` for external servers of the wrong kind, and for failing services."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from cli.errors import CommandError
from cli.stack.external_servers import require_nats, require_postgres
from cli.stack.readiness import wait_until_ready
from cli.stack.supervisor import Program, Supervisor

Require = Callable[[str], Awaitable[None]]


@asynccontextmanager
async def scripted_server(greeting: bytes, reply: bytes) -> AsyncIterator[str]:
    """Run a server that sends a greeting and one reply; yields its host and port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        if reply and await reader.read(100):
            writer.write(reply)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    ("require", "scheme", "setting", "greeting", "reply"),
    [
        (require_nats, "nats", "NATS_URL", b"HTTP/1.1 400 Bad Request\r\n", b""),
        (require_nats, "nats", "NATS_URL", b"", b""),
        (require_nats, "tls", "NATS_URL", b"+OK\r\n", b""),
        (require_postgres, "postgresql", "DATABASE_URL", b"INFO {}\r\n", b""),
        (require_postgres, "postgresql", "DATABASE_URL", b"", b"HTTP/1.1 400 Bad Request"),
        (require_postgres, "postgresql", "DATABASE_URL", b"", b""),
    ],
)
async def test_an_external_server_of_another_kind_is_refused_with_its_address(
    require: Require, scheme: str, setting: str, greeting: bytes, reply: bytes
) -> None:
    async with scripted_server(greeting, reply) as address:
        with pytest.raises(CommandError, match=f"the server at {address} does not") as raised:
            await require(f"{scheme}://u:hunter2@{address}")
    assert setting in raised.value.fix
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("require", "scheme", "greeting", "reply"),
    [
        (require_nats, "nats", b'INFO {"version":"2.11.0"}\r\n', b""),
        (require_nats, "ws", b"", b""),
        (require_postgres, "postgresql", b"", b"N"),
        (require_postgres, "postgresql", b"", b"S"),
    ],
)
async def test_an_external_server_of_the_right_kind_is_accepted(
    require: Require, scheme: str, greeting: bytes, reply: bytes
) -> None:
    async with scripted_server(greeting, reply) as address:
        await require(f"{scheme}://{address}")


class EndedSupervisor:
    """A supervisor whose program exited once and wrote a log."""

    def __init__(self, log: Path) -> None:
        self.failures = Counter({"gateway": 1})
        self.log_file = lambda _name: log


@pytest.mark.parametrize(
    ("log", "problem", "fix"),
    [
        ("{}\nerror: gateway cannot start: no\n", "gateway cannot start: no", "correct that"),
        ("error: PORT: it is none\n  fix: write one\n", "PORT: it is none", "write one"),
    ],
)
async def test_waiting_for_a_service_fails_with_the_error_that_the_service_logged(
    log: str, problem: str, fix: str, tmp_path: Path
) -> None:
    file = tmp_path / "gateway.log"
    file.write_text(log)

    async def is_ready() -> bool:
        return False

    with pytest.raises(CommandError) as raised:
        await wait_until_ready(cast("Supervisor", EndedSupervisor(file)), "gateway", is_ready)
    assert raised.value.problem == problem
    assert fix in raised.value.fix


async def test_waiting_for_a_service_continues_after_an_exit_without_a_logged_error(
    tmp_path: Path,
) -> None:
    file = tmp_path / "gateway.log"
    file.write_text("error: an earlier run\n{}\n")
    results = iter([False, True])

    async def is_ready() -> bool:
        return next(results)

    await wait_until_ready(cast("Supervisor", EndedSupervisor(file)), "gateway", is_ready)
    assert next(results, None) is None


@pytest.mark.parametrize(
    ("command", "reported"),
    [
        ("kill -9 $$", "was killed by SIGKILL"),
        # A real-time signal, as libraries send to themselves; it has no name.
        ("kill -40 $$", "was killed by signal 40"),
        ("exit 3", "exited with code 3"),
    ],
)
@pytest.mark.parametrize(
    ("note", "suffix"), [("", ""), ("Connect it again.", ". Connect it again.")]
)
async def test_a_program_is_restarted_after_any_signal_or_exit_code(
    command: str, reported: str, note: str, suffix: str, tmp_path: Path
) -> None:
    reports: asyncio.Queue[str] = asyncio.Queue()
    supervisor = Supervisor(tmp_path, lambda _name, what: reports.put_nowait(what))
    await supervisor.start(Program("once", ["sh", "-c", command], restart_note=note))
    try:
        for _ in range(2):
            async with asyncio.timeout(10):
                assert await reports.get() == f"{reported}; restarting{suffix}"
    finally:
        await supervisor.stop()

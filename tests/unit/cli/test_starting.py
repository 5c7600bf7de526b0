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
async def answering(greeting: bytes, answer: bytes) -> AsyncIterator[str]:
    """Run a server that sends a greeting and one reply; yields its host and port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        if answer and await reader.read(100):
            writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    ("require", "scheme", "setting", "greeting", "answer"),
    [
        (require_nats, "nats", "NATS_URL", b"HTTP/1.1 400 Bad Request\r\n", b""),
        (require_nats, "nats", "NATS_URL", b"", b""),
        (require_nats, "tls", "NATS_URL", b"+OK\r\n", b""),
        (require_postgres, "postgresql", "DATABASE_URL", b"INFO {}\r\n", b""),
        (require_postgres, "postgresql", "DATABASE_URL", b"", b"HTTP/1.1 400 Bad Request"),
        (require_postgres, "postgresql", "DATABASE_URL", b"", b""),
    ],
)
async def test_another_server_is_named_before_anything_starts(
    require: Require, scheme: str, setting: str, greeting: bytes, answer: bytes
) -> None:
    async with answering(greeting, answer) as place:
        with pytest.raises(CommandError, match=f"the server at {place} does not") as raised:
            await require(f"{scheme}://u:hunter2@{place}")
    assert setting in raised.value.fix
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("require", "scheme", "greeting", "answer"),
    [
        (require_nats, "nats", b'INFO {"version":"2.11.0"}\r\n', b""),
        (require_nats, "ws", b"", b""),
        (require_postgres, "postgresql", b"", b"N"),
        (require_postgres, "postgresql", b"", b"S"),
    ],
)
async def test_the_server_that_is_meant_is_taken(
    require: Require, scheme: str, greeting: bytes, answer: bytes
) -> None:
    async with answering(greeting, answer) as place:
        await require(f"{scheme}://{place}")


class Ended:
    """A supervisor whose program has ended once and written a log."""

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
async def test_a_service_that_says_why_it_cannot_run_is_not_tried_again(
    log: str, problem: str, fix: str, tmp_path: Path
) -> None:
    file = tmp_path / "gateway.log"
    file.write_text(log)

    async def never() -> bool:
        return False

    with pytest.raises(CommandError) as raised:
        await wait_until_ready(cast("Supervisor", Ended(file)), "gateway", never)
    assert raised.value.problem == problem
    assert fix in raised.value.fix


async def test_a_service_that_ended_without_a_word_is_tried_again(tmp_path: Path) -> None:
    file = tmp_path / "gateway.log"
    file.write_text("error: an earlier run\n{}\n")
    asked = iter([False, True])

    async def second_time() -> bool:
        return next(asked)

    await wait_until_ready(cast("Supervisor", Ended(file)), "gateway", second_time)
    assert next(asked, None) is None


@pytest.mark.parametrize(
    ("ends", "reported"),
    [
        ("kill -9 $$", "was killed by SIGKILL"),
        # A real-time signal, as libraries send to themselves; it has no name.
        ("kill -40 $$", "was killed by signal 40"),
        ("exit 3", "exited with code 3"),
    ],
)
@pytest.mark.parametrize(
    ("forgets", "added"), [("", ""), ("Connect it again.", ". Connect it again.")]
)
async def test_a_program_is_started_again_whatever_ended_it(
    ends: str, reported: str, forgets: str, added: str, tmp_path: Path
) -> None:
    told: asyncio.Queue[str] = asyncio.Queue()
    supervisor = Supervisor(tmp_path, lambda _name, what: told.put_nowait(what))
    await supervisor.start(Program("once", ["sh", "-c", ends], restart_note=forgets))
    try:
        for _ in range(2):
            async with asyncio.timeout(10):
                assert await told.get() == f"{reported}; restarting{added}"
    finally:
        await supervisor.stop()

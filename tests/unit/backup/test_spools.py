"""What waits in spools is waited for, and said where it stays."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cli.backup import spools
from cli.backup.archive import Manifest
from cli.backup.report import report
from cli.backup.spools import wait_until_drained
from tests.ports import free_port


@asynccontextmanager
async def gateway(*spooled: int | str) -> AsyncIterator[str]:
    """A gateway that says one after the other, and the last one from then on."""
    answers = list(spooled)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        said = answers.pop(0) if len(answers) > 1 else answers[0]
        body = json.dumps({"spooled": said}).encode()
        head = f"HTTP/1.1 503 x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        writer.close()

    port = free_port()
    async with await asyncio.start_server(answer, "127.0.0.1", port):
        yield f"http://127.0.0.1:{port}"


def quiet(_part: str, _size: int) -> None:
    pass


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spools, "POLL_SECONDS", 0.0)


async def test_a_spool_that_drains_is_waited_for() -> None:
    told: list[str] = []
    async with gateway(7, 3, 0) as one, gateway(1, 0) as two:
        assert await wait_until_drained([one, two], lambda part, _size: told.append(part)) == 0
    assert [line.rpartition(" ")[2] for line in told] == ["8", "3"]


async def test_a_spool_that_drains_is_waited_for_though_another_gateway_says_nothing() -> None:
    told: list[str] = []
    async with gateway(7, 3, 0) as one:
        silent = "http://127.0.0.1:1"
        assert (
            await wait_until_drained([one, silent], lambda part, _size: told.append(part)) is None
        )
    assert [line.rpartition(" ")[2] for line in told] == ["7", "3"]


async def test_what_does_not_drain_is_counted() -> None:
    async with gateway(5) as one, gateway(0) as two:
        assert await wait_until_drained([one, two], quiet, polls=3) == 5


@pytest.mark.parametrize("silent", ["", "http://127.0.0.1:1", "nonsense://"])
async def test_a_gateway_that_says_nothing_is_not_an_empty_spool(silent: str) -> None:
    async with gateway(0) as one, gateway("many") as odd:
        assert await wait_until_drained([one, silent], quiet) is None
        assert await wait_until_drained([one, odd], quiet) is None


@pytest.mark.parametrize(
    ("spooled", "said"),
    [(0, None), (3, "3 webhooks in a gateway's spool"), (None, "a gateway did not report")],
)
def test_the_operator_is_told(
    spooled: int | None, said: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = Manifest("local", "0.2.0", datetime.now(UTC), [], [], spooled=spooled)
    assert report(manifest, Path("there"), "saved to", json=False) == 0
    shown = capsys.readouterr().err
    assert said in " ".join(shown.split()) if said else not shown

"""A backup waits until gateways have drained their spools, and reports webhooks that remain."""

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
    """Serve a gateway that reports these numbers in turn, and the last one from then on."""
    numbers = list(spooled)

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        number = numbers.pop(0) if len(numbers) > 1 else numbers[0]
        body = json.dumps({"spooled": number}).encode()
        head = f"HTTP/1.1 503 x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        writer.close()

    port = free_port()
    async with await asyncio.start_server(respond, "127.0.0.1", port):
        yield f"http://127.0.0.1:{port}"


def ignore_progress(_part: str, _size: int) -> None:
    pass


@pytest.fixture(autouse=True)
def poll_without_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spools, "POLL_SECONDS", 0.0)


async def test_a_backup_waits_until_every_spool_is_drained() -> None:
    progress: list[str] = []
    async with gateway(7, 3, 0) as first, gateway(1, 0) as second:
        assert (
            await wait_until_drained([first, second], lambda part, _size: progress.append(part))
            == 0
        )
    assert [line.rpartition(" ")[2] for line in progress] == ["8", "3"]


async def test_a_backup_waits_for_a_spool_although_another_gateway_does_not_respond() -> None:
    progress: list[str] = []
    async with gateway(7, 3, 0) as draining:
        unreachable = "http://127.0.0.1:1"
        assert (
            await wait_until_drained(
                [draining, unreachable], lambda part, _size: progress.append(part)
            )
            is None
        )
    assert [line.rpartition(" ")[2] for line in progress] == ["7", "3"]


async def test_webhooks_that_remain_in_a_spool_are_counted() -> None:
    async with gateway(5) as full, gateway(0) as empty:
        assert await wait_until_drained([full, empty], ignore_progress, polls=3) == 5


@pytest.mark.parametrize("unreachable", ["", "http://127.0.0.1:1", "nonsense://"])
async def test_a_gateway_that_does_not_report_its_spool_makes_the_count_unknown(
    unreachable: str,
) -> None:
    async with gateway(0) as empty, gateway("many") as invalid:
        assert await wait_until_drained([empty, unreachable], ignore_progress) is None
        assert await wait_until_drained([empty, invalid], ignore_progress) is None


@pytest.mark.parametrize(
    ("spooled", "message"),
    [(0, None), (3, "3 webhooks in a gateway's spool"), (None, "a gateway did not report")],
)
def test_the_report_names_webhooks_that_remain_in_spools(
    spooled: int | None, message: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = Manifest("local", "0.2.0", datetime.now(UTC), [], [], spooled=spooled)
    assert report(manifest, Path("there"), "saved to", json=False) == 0
    output = capsys.readouterr().err
    assert message in " ".join(output.split()) if message else not output

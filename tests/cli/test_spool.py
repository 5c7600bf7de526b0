"""`hogsend spool read`: the readable content of a damaged file."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from cli.exit_codes import ExitCode
from services.gateway.webhooks.queued_webhook import QueuedWebhook
from services.gateway.webhooks.spool.spool import Spool
from tests.cli.running import Cli


async def spool_two_webhooks(directory: Path) -> None:
    spool = Spool(directory, 1_000_000)
    for name in ("first", "second"):
        body = b'{"event": "' + name.encode() + b'"}'
        await spool.append(QueuedWebhook(name, "hogsend.webhooks.posthog", {}, body))
    await spool.close()


def test_each_webhook_and_each_damaged_part_is_a_line_of_json(cli: Cli, tmp_path: Path) -> None:
    asyncio.run(spool_two_webhooks(tmp_path))
    (file,) = tmp_path.glob("*.spool")
    data = bytearray(file.read_bytes())
    data[data.index(b"second")] = ord("!")
    file.write_bytes(data)
    outcome = cli("spool", "read", str(file))
    webhook, damage = map(json.loads, outcome.out.splitlines())
    assert outcome.code == 0
    assert (webhook["found"], webhook["id"], webhook["body"]) == (
        "webhook",
        "first",
        '{"event": "first"}',
    )
    assert damage["found"] == "damage"
    assert '{"event": "second"}' in damage["text"]


def test_several_spool_files_are_read_in_order(cli: Cli, tmp_path: Path) -> None:
    for name in ("a", "b"):
        asyncio.run(spool_two_webhooks(tmp_path / name))
    files = [*tmp_path.rglob("*.spool")]
    outcome = cli("spool", "read", *map(str, files))
    assert outcome.code == 0
    parts = [json.loads(line) for line in outcome.out.splitlines()]
    assert [part["file"] for part in parts] == [file.name for file in files for _ in range(2)]


def test_a_missing_spool_file_is_named(cli: Cli, tmp_path: Path) -> None:
    outcome = cli("spool", "read", str(tmp_path / "none.spool"))
    assert outcome.code != 0
    assert "none.spool" in outcome.everything


@pytest.mark.parametrize(
    ("stdout", "code", "line"),
    [
        (">/dev/full", ExitCode.FAILED, "error: No space left on device"),
        (">&-", ExitCode.FAILED, "error: stdout is not open for writing"),
        ("| :", ExitCode.CLOSED_PIPE, None),
    ],
)
def test_a_refused_write_to_stdout_is_not_reported_as_an_unreadable_file(
    tmp_path: Path, stdout: str, code: ExitCode, line: str | None
) -> None:
    file = tmp_path / "1-1.spool"
    file.write_bytes(b"damage" * 200_000)  # more than a pipe and Python's buffer hold
    command = f'{{ "$@"; echo "exit $?" >&2; }} {stdout}'
    process = subprocess.run(
        ["/bin/sh", "-c", command, "sh", sys.executable, "-m", "cli.main", "spool", "read", file],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    *errors, last = process.stderr.splitlines()
    assert errors[:1] == ([line] if line else [])
    assert last == f"exit {code}"

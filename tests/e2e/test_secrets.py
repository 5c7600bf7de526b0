"""A running stack at debug level has no secret in metrics, process list, database or streams."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import nats
import nats.js.errors
import psutil
import pytest

from cli.stack.environment import SERVICE_SETTINGS
from cli.stack.postgres import BINARIES
from hogsend.contract.permissions import inbox_prefix
from hogsend.contract.streams import StreamName
from hogsend.contract.users import User
from tests.e2e.test_demo import MINTED, TOKENS, VERIFIER
from tests.open_postgres import OpenPostgres
from tests.ports import free_port, real_ports
from tests.running_stack import PYTHONPATH, clean_environment
from tests.waiting import PATIENCE_SECONDS, eventually

# Another test run may occupy the demo's ports for a while.
pytestmark = pytest.mark.timeout(600)

BINARY = re.compile(rb"\\x[0-9a-f]+")
"""How pg_dump writes values of type bytea; those of Hogsend are digests."""


@dataclass
class Demo:
    """A demo that has finished its scenario and whose stack keeps running."""

    pid: int
    home: Path
    gateway_port: int
    nats_port: int
    secrets: list[bytes]
    """The generated keys and passwords of its stack."""

    def assert_no_secret(self, content: bytes, where: str) -> None:
        assert content, where
        assert not TOKENS.search(content), where
        assert not MINTED.search(BINARY.sub(b"", content)), where
        assert not VERIFIER.search(content), where
        assert not [secret for secret in self.secrets if secret in content], where


@pytest.fixture(scope="module")
async def demo(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Demo]:
    home = tmp_path_factory.mktemp("secrets")
    ports = {name: str(free_port()) for name in ("GATEWAY_PORT", "NATS_PORT")}
    # On a terminal the demo keeps running after its scenario.
    terminal, demo_side = pty.openpty()
    output = bytearray()
    asyncio.get_running_loop().add_reader(terminal, lambda: output.extend(_read(terminal)))
    starting = ExitStack()
    starting.enter_context(real_ports())
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli.main", "demo"),
        env={
            **clean_environment(),
            **ports,
            "PYTHONPATH": PYTHONPATH,
            "HOGSEND_HOME": str(home),
            "LOG_LEVEL": "debug",
            "TERM": "xterm",
        },
        cwd=home,
        stdout=demo_side,
        stderr=demo_side,
    )
    os.close(demo_side)
    try:
        await eventually(lambda: b"Ctrl-C stops everything" in output, 110)
        starting.close()
        secrets = home / "demo" / "secrets"
        yield Demo(
            process.pid,
            home / "demo",
            int(ports["GATEWAY_PORT"]),
            int(ports["NATS_PORT"]),
            [file.read_bytes().strip() for file in secrets.iterdir()],
        )
    finally:
        starting.close()
        process.terminate()
        await asyncio.wait_for(process.wait(), 60)
        asyncio.get_running_loop().remove_reader(terminal)
        os.close(terminal)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:
        # The last process that wrote to the terminal has exited.
        return b""


def secret(demo: Demo, name: str) -> str:
    return (demo.home / "secrets" / name).read_text().strip()


async def test_metrics_contain_no_secret(demo: Demo) -> None:
    key = {"Authorization": f"Bearer {secret(demo, 'admin-api-key')}"}
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{demo.gateway_port}", timeout=PATIENCE_SECONDS
    ) as http:
        response = await http.get("/metrics", headers=key)
    assert response.status_code == 200
    demo.assert_no_secret(response.content, "metrics")


def test_the_process_list_contains_no_secret_and_services_dump_no_core(demo: Demo) -> None:
    processes = psutil.Process(demo.pid).children(recursive=True)
    lines = [" ".join(process.cmdline()) for process in processes]
    assert len([line for line in lines if " serve " in line]) == len(SERVICE_SETTINGS)
    demo.assert_no_secret("\n".join(lines).encode(), "process list")
    for process, line in zip(processes, lines, strict=True):
        if " serve " in line:
            limits = Path(f"/proc/{process.pid}/limits").read_text()
            assert re.search(r"^Max core file size +0 +0", limits, re.MULTILINE)


def test_the_database_contains_no_secret(demo: Demo) -> None:
    sockets = OpenPostgres(demo.home / "postgres").sockets
    dump = subprocess.run(
        [BINARIES / "pg_dump", "-h", sockets, "-U", "postgres", "--inserts", "hogsend"],
        env={"PGPASSWORD": secret(demo, "postgres-superuser")},
        check=True,
        capture_output=True,
    ).stdout
    assert dump.count(b"INSERT INTO credentials.provider_credentials") == 2
    assert b"INSERT INTO ingest.events" in dump
    demo.assert_no_secret(dump, "database")


async def test_streams_contain_no_secret(demo: Demo) -> None:
    client = await nats.connect(
        f"nats://operator:{secret(demo, 'nats-operator')}@127.0.0.1:{demo.nats_port}",
        inbox_prefix=inbox_prefix(User.OPERATOR),
    )
    js, messages = client.jetstream(timeout=PATIENCE_SECONDS), []
    for stream in StreamName:
        state = (await js.stream_info(stream)).state
        for sequence in range(max(state.first_seq, 1), state.last_seq + 1):
            try:
                message = await js.get_msg(stream, sequence)
            except nats.js.errors.NotFoundError:
                continue
            messages.append((message.data or b"") + json.dumps(message.headers or {}).encode())
    await client.close()
    assert len(messages) >= 3
    demo.assert_no_secret(b"\n".join(messages), "streams")


async def test_service_discovery_contains_no_secret(demo: Demo) -> None:
    """The replies hold what `nats micro` shows an operator: endpoints, schemas and statistics."""
    client = await nats.connect(
        f"nats://operator:{secret(demo, 'nats-operator')}@127.0.0.1:{demo.nats_port}",
        inbox_prefix=inbox_prefix(User.OPERATOR),
    )
    replies: list[bytes] = []
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox)
    for verb in ("PING", "INFO", "STATS"):
        await client.publish(f"$SRV.{verb}", reply=inbox)
    while len(replies) < 3 * (len(SERVICE_SETTINGS) - 1):
        replies.append((await subscription.next_msg(timeout=PATIENCE_SECONDS)).data)
    await client.close()
    demo.assert_no_secret(b"\n".join(replies), "service statistics")

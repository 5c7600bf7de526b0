"""`hogsend streams` and the `nats` command restore each other's backups."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest
from nats.js.api import AckPolicy, ConsumerConfig

from cli.backup.stream_snapshot import restore, save
from hogsend.contract.permissions import inbox_prefix
from hogsend.contract.streams import StreamName
from hogsend.contract.users import User
from hogsend.service.streams import reconcile
from hogsend.transport.connection import Connection
from tests.integration.harness import connected
from tests.servers import Servers

STREAM = StreamName.EVENTS
BODIES = [b"0" * 100, os.urandom(300_000), os.urandom(300_000)]
"""More than one chunk of a backup, also compressed."""

pytestmark = pytest.mark.skipif(
    shutil.which("nats") is None, reason="the nats command is not installed"
)


async def run_nats(servers: Servers, directory: Path, *arguments: str) -> None:
    """Run `nats` as the operator."""
    process = await asyncio.create_subprocess_exec(
        *("nats", "--inbox-prefix", inbox_prefix(User.OPERATOR), *arguments),
        env={
            "PATH": os.environ["PATH"],
            "NATS_URL": servers.nats_url(User.OPERATOR),
            # A context that the developer selected would change the commands.
            "XDG_CONFIG_HOME": str(directory),
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, out.decode()


async def fill(operator: Connection) -> None:
    """Publish three events, of which a durable acknowledges the first."""
    await reconcile(operator.js, User.INGEST)
    for body in BODIES:
        await operator.publish("hogsend.events.x", body, {})
    config = ConsumerConfig(durable_name="mine", ack_policy=AckPolicy.EXPLICIT)
    await operator.js.add_consumer(STREAM, config)
    durable = await operator.js.pull_subscribe_bind("mine", STREAM)
    (first,) = await durable.fetch(1)
    await first.ack_sync()


async def remaining(operator: Connection) -> list[bytes]:
    """Return what the durable has not acknowledged."""
    durable = await operator.js.pull_subscribe_bind("mine", STREAM)
    return [message.data for message in await durable.fetch(2)]


def ignore_progress(_stream: str, _bytes: int) -> None:
    pass


async def test_nats_restores_what_hogsend_saved(
    servers: Servers, fresh_bus: None, tmp_path: Path
) -> None:
    async with connected(servers, User.OPERATOR) as operator:
        await fill(operator)
        config = (await operator.js.stream_info(STREAM)).config
        await save(operator.client, STREAM, tmp_path, ignore_progress)
        await operator.js.delete_stream(STREAM)
        await run_nats(servers, tmp_path, "stream", "restore", str(tmp_path / STREAM))
        assert await remaining(operator) == BODIES[1:]
        assert (await operator.js.stream_info(STREAM)).config == config


async def test_hogsend_restores_what_nats_saved(
    servers: Servers, fresh_bus: None, tmp_path: Path
) -> None:
    async with connected(servers, User.OPERATOR) as operator:
        await fill(operator)
        config = (await operator.js.stream_info(STREAM)).config
        await run_nats(servers, tmp_path, "account", "backup", "--force", str(tmp_path / "all"))
        await operator.js.delete_stream(STREAM)
        await restore(operator.client, tmp_path / "all" / STREAM, ignore_progress)
        assert await remaining(operator) == BODIES[1:]
        assert (await operator.js.stream_info(STREAM)).config == config

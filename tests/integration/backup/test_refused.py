"""What `hogsend streams backup` and `restore` refuse, and the fix that they name."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from hogsend.contract.users import User
from hogsend.service import streams
from tests.integration.harness import connected
from tests.running_stack import PYTHONPATH
from tests.servers import Servers


async def run(*arguments: str, url: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "cli.main", "streams", *arguments],
        env={**os.environ, "PYTHONPATH": PYTHONPATH, "NATS_URL": url},
        capture_output=True,
        text=True,
        check=False,
    )


async def test_a_missing_backup_an_existing_stream_and_a_user_without_permission_are_refused(
    servers: Servers, fresh_bus: None, tmp_path: Path
) -> None:
    refused = await run("restore", str(tmp_path), url="nats://127.0.0.1:9")
    assert refused.returncode == 1
    assert "there is no backup in" in refused.stderr
    async with connected(servers, User.INGEST) as ingest:
        await streams.reconcile(ingest.js, User.INGEST)
    url, saved = servers.nats_url(User.OPERATOR), str(tmp_path / "saved")
    backup = await run("backup", saved, url=url)
    assert backup.returncode == 0, backup.stderr
    refused = await run("restore", saved, url=url)
    assert refused.returncode == 1
    assert "already in use" in refused.stderr
    assert "fix: restore into a NATS without streams" in refused.stderr
    # A user that may only subscribe may not back up streams.
    url = servers.nats_url(User.SUBSCRIBER)
    refused = await run("backup", str(tmp_path / "other"), url=url)
    assert refused.returncode == 1
    assert "NATS user 'subscriber' may not" in refused.stderr
    assert "set NATS_URL to the one in operator.env" in refused.stderr

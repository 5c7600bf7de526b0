"""`hogsend up --sandbox`: connecting, provisioning and delivery work without further flags."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import httpx

from cli.demo.connecting import connect
from cli.stack.local_sandbox import LocalSandbox
from sandbox.options import Options
from tests.cli.running import Outcome, finish
from tests.ports import free_port
from tests.running_stack import PYTHONPATH, ROOT, Up, clean_environment, up
from tests.transcripts import play
from tests.waiting import PATIENCE_SECONDS, eventually


async def start(stack: Up, *arguments: str) -> asyncio.subprocess.Process:
    """Start a `hogsend` command, as in a second terminal."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli.main", *arguments),
        env=variables(stack),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def run(stack: Up, *arguments: str) -> Outcome:
    return await finish(await start(stack, *arguments))


def variables(stack: Up) -> dict[str, str]:
    return {
        **clean_environment(),
        "PYTHONPATH": PYTHONPATH,
        "HOGSEND_HOME": str(stack.home),
        "HOGSEND_API_URL": stack.summary["gateway"],
        "HOGSEND_ADMIN_KEY": stack.admin["Authorization"].removeprefix("Bearer "),
        "PATH": os.environ["PATH"],
    }


async def capture_past(url: str) -> None:
    """Capture two events with a time in the past, before PostHog is connected."""
    past = [
        {"event": "trial_started", "distinct_id": user, "timestamp": "2026-01-02T00:00:00Z"}
        for user in ("u_1", "u_2")
    ]
    body = {"api_key": Options().project_key, "batch": past}
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_SECONDS) as posthog:
        assert (await posthog.post("/batch/", json=body)).is_success


async def connect_in_the_browser(stack: Up) -> None:
    """Connect PostHog over OAuth as the console does; then disconnect."""
    console = stack.summary["gateway"]
    own_page = {"Origin": console, "X-Hogsend-Console": "1"}
    key = stack.admin["Authorization"].removeprefix("Bearer ")
    async with httpx.AsyncClient(base_url=console, headers=own_page, timeout=30) as browser:
        assert (await browser.post("/console/session", json={"key": key})).is_success
        started = await browser.post("/console/connect/begin", json={})
        assert started.is_success, started.text
        # The sandbox fetches the client document from the gateway, and consents by itself.
        callback = await browser.get(started.json()["authorizeUrl"], follow_redirects=True)
        assert callback.url.path == "/console/connect/callback", callback.text
        authorization = {name: callback.url.params[name] for name in ("state", "code")}
        finished = await browser.post("/console/connect/finish", json=authorization)
        assert finished.is_success, finished.text
        assert finished.json()["scopedTeams"] == [Options().project_id]
        repeated = await browser.post("/console/connect/finish", json=authorization)
        assert (repeated.status_code, repeated.json()["error"]) == (409, "authorization_expired")
        credential = "/v1/admin/provider-credentials/posthog"
        assert (await browser.get(credential)).json()["scopedTeams"] == [Options().project_id]
        assert (await browser.delete(credential)).is_success


async def test_events_captured_in_the_sandbox_are_followed_listed_and_imported(
    tmp_path: Path,
) -> None:
    port = free_port()
    home = tmp_path / "home"
    # A PostHog in the settings is not called while the sandbox runs.
    (tmp_path / ".env").write_text("POSTHOG_PROJECT_ID=99\nPOSTHOG_HOST=http://127.0.0.1:9\n")
    sandbox = ("--sandbox", "--sandbox-port", str(port))
    async with up(home, tmp_path, *sandbox) as stack:
        assert stack.summary["posthog"] == f"http://127.0.0.1:{port}"
        gateway = stack.summary["gateway"]
        await capture_past(stack.summary["posthog"])
        await connect_in_the_browser(stack)
        connected = await connect(gateway, variables(stack), tmp_path)
        assert connected.provision.ok
        following = await start(stack, "events", "follow", "signed_up", "--json")
        assert following.stdout is not None
        assert following.stderr is not None
        assert b"waiting for events" in await asyncio.wait_for(following.stderr.readline(), 60)
        stand_in = LocalSandbox(port, httpx.URL(gateway).port or 0)
        async with httpx.AsyncClient(
            base_url=stand_in.options.url, timeout=PATIENCE_SECONDS
        ) as posthog:
            body = stand_in.event("signed_up", "u_42", "ada@example.com")
            line = asyncio.create_task(following.stdout.readline())

            async def has_arrived() -> bool:
                # `follow` starts at an unknown moment: capture until it prints an event.
                assert (await posthog.post("/i/v0/e/", json=body)).is_success
                return (await asyncio.wait({line}, timeout=0.5))[0] != set()

            await eventually(has_arrived, 60)
        assert json.loads(line.result())["userId"] == "u_42"
        following.send_signal(2)
        ended = await finish(following)
        assert (ended.code, ended.err) == (0, "")

        listed = await run(stack, "events", "list", "--event", "signed_up", "--json")
        assert listed.json["events"][0]["userId"] == "u_42"
        sent = await run(stack, "events", "send", "invited", "--user", "u_42", "--key", "k-1")
        assert sent.code == 0
        repeated = await run(stack, "events", "send", "invited", "--user", "u_42", "--key", "k-1")
        assert "sent before" in repeated.out
        diagnosis = await run(stack, "doctor", "--json")
        assert diagnosis.json["verdict"] == "ok", diagnosis.out
        assert diagnosis.json["analytics"]["destination"]["state"] == "live"

        # The transcript of docs/backfill.md.
        transcript = (ROOT / "docs" / "examples" / "backfill.console").read_text()
        programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        await play(transcript, tmp_path, {**variables(stack), "PATH": programs})

    # A sandbox forgets its grants when it stops, so the stored credential is deleted.
    async with up(home, tmp_path) as stack:
        credential = "/v1/admin/provider-credentials/posthog"
        assert (await stack.http.get(credential, headers=stack.admin)).status_code == 404

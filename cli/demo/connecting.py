"""Runs `hogsend connect posthog` as a user does, with a browser that consents at once."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from cli.errors import CommandError
from cli.local_http import local_http
from hogsend.contract.json_text import NOT_JSON
from hogsend.posthog.client_document import OWN_PATH

_FIX = "see the logs in .hogsend/demo/logs and report it: the demo should always connect"
_URL = re.compile(r"https?://\S+/oauth/authorize\S*")


class Provision(msgspec.Struct, frozen=True, rename="camel"):
    """The result of provisioning."""

    ok: bool = False
    error: str | None = None
    hog_function_id: str | None = None
    webhook_url: str | None = None
    dashboard_url: str | None = None


class Connected(msgspec.Struct, frozen=True):
    """The fields of the JSON document of `hogsend connect` that the demo shows."""

    verdict: str
    ok: bool
    provision: Provision = Provision()
    error: str | None = None


def command(gateway: str) -> list[str]:
    """Return the arguments. The gateway serves the client document, so no internet is needed."""
    return [
        *("connect", "posthog", "--url", gateway),
        *("--client-id", f"{gateway}{OWN_PATH}", "--no-browser", "--json"),
    ]


async def connect(gateway: str, environment: Mapping[str, str], directory: Path) -> Connected:
    """Run `hogsend connect posthog` until it ends.

    Raises:
        CommandError: it did not connect, or did not create the webhook destination.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli.main", *command(gateway)),
        env=dict(environment),
        cwd=directory,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        stderr, document = await asyncio.gather(_consent(process), _read(process.stdout))
        await process.wait()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    try:
        connected = msgspec.json.decode(document, type=Connected)
    except NOT_JSON:
        raise CommandError(f"connecting failed: {stderr.strip() or 'no output'}", _FIX) from None
    if not (connected.ok and connected.provision.ok):
        reason = connected.error or connected.provision.error
        raise CommandError(f"connecting ended with {connected.verdict} ({reason})", _FIX)
    return connected


async def _consent(process: asyncio.subprocess.Process) -> str:
    """Open the authorization URL once it is printed, and return everything on stderr."""
    stderr = ""
    is_opened = False
    while process.stderr is not None and (line := await process.stderr.readline()):
        stderr += line.decode(errors="replace")
        url = _URL.search(stderr)
        if url is not None and not is_opened:
            is_opened = True
            async with local_http(follow_redirects=True, timeout=10.0) as browser:
                await browser.get(url.group())
    return stderr


async def _read(stream: asyncio.StreamReader | None) -> bytes:
    return await stream.read() if stream is not None else b""

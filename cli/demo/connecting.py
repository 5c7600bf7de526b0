"""`hogsend connect posthog`, run as a person would, with a browser that consents at once."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import httpx
import msgspec

from cli.errors import CommandError
from hogsend.posthog.client_document import OWN_PATH

_URL = re.compile(r"https?://\S+/oauth/authorize\S*")


class Provision(msgspec.Struct, frozen=True, rename="camel"):
    """What became of the destination."""

    ok: bool = False
    error: str | None = None
    hog_function_id: str | None = None
    webhook_url: str | None = None
    dashboard_url: str | None = None


class Connected(msgspec.Struct, frozen=True):
    """The command's JSON document, as far as the demo tells it."""

    verdict: str
    ok: bool
    provision: Provision = Provision()
    error: str | None = None


def command(gateway: str) -> list[str]:
    """Give the command line; the client document is the gateway's own, as there is no internet."""
    return [
        *("connect", "posthog", "--url", gateway),
        *("--client-id", f"{gateway}{OWN_PATH}", "--no-browser", "--json"),
    ]


async def connect(gateway: str, environment: Mapping[str, str], directory: Path) -> Connected:
    """Run the command to its end.

    Raises:
        CommandError: it did not connect.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli.main", *command(gateway)),
        env=dict(environment),
        cwd=directory,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        said, document = await asyncio.gather(_consent(process), _read(process.stdout))
        await process.wait()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    try:
        connected = msgspec.json.decode(document, type=Connected)
    except msgspec.DecodeError:
        raise CommandError(f"connecting failed: {said.strip() or 'it said nothing'}") from None
    if not (connected.ok and connected.provision.ok):
        reason = connected.error or connected.provision.error
        raise CommandError(f"connecting ended with {connected.verdict} ({reason})")
    return connected


async def _consent(process: asyncio.subprocess.Process) -> str:
    """Follow the authorize URL once it is printed, as the browser would."""
    said = ""
    followed = False
    while process.stderr is not None and (line := await process.stderr.readline()):
        said += line.decode(errors="replace")
        url = _URL.search(said)
        if url is not None and not followed:
            followed = True
            async with httpx.AsyncClient(follow_redirects=True, timeout=10.0) as browser:
                await browser.get(url.group())
    return said


async def _read(stream: asyncio.StreamReader | None) -> bytes:
    return await stream.read() if stream is not None else b""

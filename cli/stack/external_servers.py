"""Servers that `hogsend up` does not start: whether anything answers where a setting says."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from cli.errors import CommandError
from hogsend.service.postgres_address import PostgresAddress
from hogsend.transport.server_version import too_old

REACH_SECONDS = 3.0
"""Longest wait for an answer: a server that is there answers at once."""
NATS_PORT = 4222

_VERSION = re.compile(rb'"version":\s*"([0-9A-Za-z.+-]{1,40})"')

Place = tuple[str, int]


async def require_nats(url: str) -> None:
    """Check that something answers at one of the addresses of `NATS_URL`.

    Raises:
        CommandError: nothing does, or a server that is too old.
    """
    addresses = [address.strip() for address in url.split(",")]
    parts = [urlsplit(one if "://" in one else f"nats://{one}") for one in addresses]
    places = [(part.hostname or "localhost", part.port or NATS_PORT) for part in parts]
    await _require("NATS", "NATS_URL", places)
    for place in places:
        if problem := too_old(await _nats_version(place)):
            raise CommandError(
                f"{problem}, and NATS_URL names one",
                "upgrade that server, or unset NATS_URL to let `hogsend up` start one",
            )


async def require_postgres(url: str) -> None:
    """Check that something answers at one of the hosts of `DATABASE_URL`.

    Raises:
        CommandError: nothing does.
    """
    await _require("PostgreSQL", "DATABASE_URL", PostgresAddress.parse(url).hosts)


async def _require(server: str, setting: str, places: Sequence[Place]) -> None:
    answers = await asyncio.gather(*map(_answers, places))
    if any(answers):
        return
    named = ", ".join(f"{host}:{port}" for host, port in places)
    raise CommandError(
        f"no {server} answers at {named}, where {setting} says it is",
        f"start that server, correct {setting}, or unset it to let `hogsend up` start one",
    )


async def _nats_version(place: Place) -> str:
    """The version a NATS server begins every connection with; empty when it says none."""
    try:
        async with asyncio.timeout(REACH_SECONDS):
            reader, writer = await asyncio.open_connection(*place)
            greeting = await reader.readline()
    except (OSError, TimeoutError, ValueError):
        return ""
    writer.close()
    found = _VERSION.search(greeting)
    return found[1].decode() if found else ""


async def _answers(place: Place) -> bool:
    host, port = place
    try:
        async with asyncio.timeout(REACH_SECONDS):
            if host.startswith("/"):
                socket = str(Path(host) / f".s.PGSQL.{port}")
                _, writer = await asyncio.open_unix_connection(socket)
            else:
                _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True

"""Webhooks in the spools of gateways, which a backup does not include."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import httpx

from cli.backup.stream_snapshot import Progress
from cli.local_http import local_http

RESPONSE_SECONDS = 5.0
POLL_SECONDS = 0.5
POLLS = 60
"""Number of polls. A spool normally drains within seconds once NATS is up."""


async def wait_until_drained(
    addresses: Sequence[str], progress: Progress, *, polls: int = POLLS
) -> int | None:
    """Wait until the spools of these gateways are empty, for at most `polls` polls.

    Returns:
        Number of webhooks that remain; None if a gateway does not report it.
    """
    remaining: int | None = None
    async with local_http(timeout=RESPONSE_SECONDS) as http:
        for attempt in range(polls):
            if attempt:
                await asyncio.sleep(POLL_SECONDS)
            counts = [await spooled_webhooks(http, address) for address in addresses]
            waiting = sum(count for count in counts if count is not None)
            remaining = None if None in counts else waiting
            # A gateway that does not report its count does not end the wait for the others.
            if not waiting:
                return remaining
            progress(f"waiting for the spool: {waiting}", 0)
    return remaining


async def spooled_webhooks(http: httpx.AsyncClient, address: str = "") -> int | None:
    """Return the number of webhooks in a gateway's spool; None if it does not report it.

    Args:
        http: the client.
        address: URL of the gateway; empty if the client has it as its base URL.
    """
    try:
        return int((await http.get(f"{address}/readyz")).json()["spooled"])
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError):
        return None

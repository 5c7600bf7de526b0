"""Webhooks that wait in the spools of gateways, which no backup has."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import httpx

from cli.backup.streams import Progress
from cli.own_http import own_http

ANSWER_SECONDS = 5.0
POLL_SECONDS = 0.5
POLLS = 60
"""A spool drains within moments of NATS' return."""


async def waited_for(
    addresses: Sequence[str], progress: Progress, *, polls: int = POLLS
) -> int | None:
    """Wait until the spools of these gateways are empty.

    Returns:
        How many webhooks are left; None when a gateway does not say.
    """
    left: int | None = None
    async with own_http(timeout=ANSWER_SECONDS) as http:
        for attempt in range(polls):
            if attempt:
                await asyncio.sleep(POLL_SECONDS)
            found = [await spooled(http, address) for address in addresses]
            waiting = sum(one for one in found if one is not None)
            left = None if None in found else waiting
            # Those that say so are waited for, whatever another one does.
            if not waiting:
                return left
            progress(f"what waits in the spool: {waiting}", 0)
    return left


async def spooled(http: httpx.AsyncClient, address: str = "") -> int | None:
    """Ask a gateway how many webhooks are in its spool; None while it does not say.

    Args:
        http: the client, which may know the address.
        address: where the gateway is.
    """
    try:
        return int((await http.get(f"{address}/readyz")).json()["spooled"])
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError):
        return None

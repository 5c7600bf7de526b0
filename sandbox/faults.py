"""Injected faults: an area of the API that is slow, fails, or limits the rate."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Area = Literal["oauth", "api", "ingestion", "flags"]

PREFIXES: dict[str, Area] = {
    "/oauth/": "oauth",
    "/.well-known/": "oauth",
    "/api/": "api",
    "/flags": "flags",
    "/decide": "flags",
    "/i/": "ingestion",
    "/e": "ingestion",
    "/capture": "ingestion",
    "/track": "ingestion",
    "/batch": "ingestion",
}


class Fault(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How requests to an area fail; fields with their default change nothing."""

    delay_ms: Annotated[int, Meta(ge=0, le=600_000)] = 0
    """Delay before anything else, in milliseconds."""

    status: Annotated[int, Meta(ge=400, le=599)] | None = None
    """Respond with this status, and with PostHog's body for it."""

    retry_after: Annotated[int, Meta(ge=0)] | None = None
    """Seconds in `Retry-After`."""

    lose_answer: bool = False
    """Process the request, but respond with `status` (502 by default), as if it had failed."""

    drop: bool = False
    """Close the connection in the middle of the response."""

    times: Annotated[int, Meta(ge=1)] | None = None
    """Number of requests that fail; all by default."""


class Faults:
    """The current faults, by area."""

    def __init__(self) -> None:
        self.by_area: dict[Area, Fault] = {}
        self._replaced = asyncio.Event()

    def replace(self, by_area: dict[Area, Fault]) -> None:
        """Replace all faults; ends current delays."""
        self.by_area = by_area
        self._replaced.set()
        self._replaced = asyncio.Event()

    async def delay(self, seconds: float) -> None:
        """Sleep, until the faults are replaced at the latest."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._replaced.wait()

    def take(self, path: str) -> Fault | None:
        """Return the fault for a request, and count the request."""
        area = next((area for prefix, area in PREFIXES.items() if path.startswith(prefix)), None)
        fault = self.by_area.get(area) if area else None
        if fault is None or area is None:
            return None
        if fault.times is not None:
            fault.times -= 1
            if not fault.times:
                del self.by_area[area]
        return fault

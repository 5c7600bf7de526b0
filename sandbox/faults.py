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
    """What is wrong with an area; all that is left out is right."""

    delay_ms: Annotated[int, Meta(ge=0, le=600_000)] = 0
    """Wait this long before anything else."""

    status: Annotated[int, Meta(ge=400, le=599)] | None = None
    """Answer this, with PostHog's body for it."""

    retry_after: Annotated[int, Meta(ge=0)] | None = None
    """Seconds in `Retry-After`."""

    lose_answer: bool = False
    """Do what was asked and answer `status` (502) all the same: the effect is there, unknown."""

    drop: bool = False
    """Close the connection in the middle of an answer."""

    times: Annotated[int, Meta(ge=1)] | None = None
    """Only for so many requests; for all when not given."""


class Faults:
    """The faults there are, by area."""

    def __init__(self) -> None:
        self.by_area: dict[Area, Fault] = {}
        self._replaced = asyncio.Event()

    def replace(self, by_area: dict[Area, Fault]) -> None:
        """Put other faults in place; requests that are being delayed go on."""
        self.by_area = by_area
        self._replaced.set()
        self._replaced = asyncio.Event()

    async def delay(self, seconds: float) -> None:
        """Wait, at most until the faults are replaced."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._replaced.wait(), seconds)

    def take(self, path: str) -> Fault | None:
        """The fault a request for `path` meets; counts it."""
        area = next((area for prefix, area in PREFIXES.items() if path.startswith(prefix)), None)
        fault = self.by_area.get(area) if area else None
        if fault is None or area is None:
            return None
        if fault.times is not None:
            fault.times -= 1
            if not fault.times:
                del self.by_area[area]
        return fault

"""Waiting for what is away."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import stamina

from hogsend.errors import Unavailable

Result = TypeVar("Result")

RETRY_SECONDS = 5.0
"""Longest pause between attempts while a dependency is away."""


async def until_it_works(action: Callable[[], Awaitable[Result]]) -> tuple[Result, int]:
    """Repeat `action` while its dependency is away; returns its result and the attempts it took."""
    async for attempt in stamina.retry_context(
        on=Unavailable, attempts=None, timeout=None, wait_initial=0.1, wait_max=RETRY_SECONDS
    ):
        with attempt:
            return await action(), attempt.num
    raise AssertionError("retries never end")

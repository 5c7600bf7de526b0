"""Waiting for what is away."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import stamina

from hogsend.contract.errors import Unavailable

Result = TypeVar("Result")

RETRY_SECONDS = 5.0
"""Longest pause between attempts while a dependency is away."""


_waiting: list[str] = []
"""Why each call that has failed at least once repeats its action."""


async def until_it_works(action: Callable[[], Awaitable[Result]]) -> tuple[Result, int]:
    """Repeat `action` while its dependency is away; returns its result and the attempts it took.

    stamina logs and counts every repetition.
    """
    said: str | None = None
    try:
        async for attempt in stamina.retry_context(
            on=Unavailable, attempts=None, timeout=None, wait_initial=0.1, wait_max=RETRY_SECONDS
        ):
            with attempt:
                try:
                    return await action(), attempt.num
                except Unavailable as error:
                    if said is None:
                        said = str(error)
                        _waiting.append(said)
                    raise
    finally:
        if said is not None:
            _waiting.remove(said)
    raise AssertionError("retries never end")


def waits_for() -> str | None:
    """What this process cannot go on without right now, if anything."""
    return _waiting[0] if _waiting else None

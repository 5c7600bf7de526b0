"""Waiting for a condition instead of sleeping."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Callable, Sized
from typing import Any

PATIENCE_SECONDS = 100.0 if os.environ.get("CI") else 25.0
"""The timeout of conditions that a test waits for.

It is below 30 s, after which JetStream redelivers messages and services revalidate their caches: a
test that something happens at once must not pass because of those. In CI it is longer, because
machines there may be slow, and no test may fail for that reason.
"""


async def eventually(condition: Callable[[], Any], timeout: float = PATIENCE_SECONDS) -> Any:
    """Call `condition`, which may be async, until its result is true; return the result.

    Fails after `timeout` seconds, or after `PATIENCE_SECONDS` if that is longer: on a slow machine
    a condition with a longer timeout is slow, too.
    """
    async with asyncio.timeout(max(timeout, PATIENCE_SECONDS)):
        while True:
            outcome = condition()
            if inspect.isawaitable(outcome):
                outcome = await outcome
            if outcome:
                return outcome
            await asyncio.sleep(0.02)


def more_than(number: int, items: Sized) -> Callable[[], bool]:
    """Return the condition that `items` has more than `number` elements."""
    return lambda: len(items) > number

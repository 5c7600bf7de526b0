"""Waiting for a condition instead of sleeping."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sized
from typing import Any


async def eventually(condition: Callable[[], Any], timeout: float = 15.0) -> Any:
    """Ask `condition`, which may be async, until it is true; fail after `timeout` seconds."""
    async with asyncio.timeout(timeout):
        while True:
            outcome = condition()
            if inspect.isawaitable(outcome):
                outcome = await outcome
            if outcome:
                return outcome
            await asyncio.sleep(0.02)


def more_than(number: int, items: Sized) -> Callable[[], bool]:
    """Condition that `items` has grown past `number`."""
    return lambda: len(items) > number

"""Waiting for a condition instead of sleeping."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Callable, Sized
from typing import Any

PATIENCE_SECONDS = 100.0 if os.environ.get("CI") else 25.0
"""How long what must happen may take.

Less than the 30 seconds after which JetStream gives a message again, and the services ask again by
themselves: what is to come at once is not proven by what comes then. A machine of a CI, of which
nobody knows what else it does, gets more: no test fails because it is slow.
"""


async def eventually(condition: Callable[[], Any], timeout: float = PATIENCE_SECONDS) -> Any:
    """Ask `condition`, which may be async, until it is true.

    It fails after `timeout` seconds, and never sooner than after those above: what takes longer
    than most things here takes no less where everything does.
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
    """Condition that `items` has grown past `number`."""
    return lambda: len(items) > number

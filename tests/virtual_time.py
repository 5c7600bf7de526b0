"""Asyncio code on a clock that jumps: hours of waiting take no time, and nothing is timed.

Only for code that waits for its own process. Sockets and threads need real time.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

Given = ParamSpec("Given")
Result = TypeVar("Result")

MAX_TURNS = 5_000
"""Turns of the loop without the clock moving; more are an endless loop."""


class _JumpingSelector(selectors.DefaultSelector):
    """Instead of waiting for a timer, moves the clock to it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self._turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            self._turns += 1
            if self._turns > MAX_TURNS:
                raise AssertionError("an endless loop: the clock stands still")
        elif timeout is None:
            raise AssertionError("every task waits for something that will never happen")
        else:
            self.now += timeout
            self._turns = 0
        return ready


class _VirtualTimeLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._clock = _JumpingSelector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now


def run(test: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end on a clock that starts at 0."""
    with asyncio.Runner(loop_factory=_VirtualTimeLoop) as runner:
        return runner.run(test)


def on_virtual_time(
    test: Callable[Given, Coroutine[Any, Any, Result]],
) -> Callable[Given, Result]:
    """Make an async test run on virtual time; its fixtures must not be async."""

    @functools.wraps(test)
    def on_its_own_loop(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        return run(test(*args, **kwargs))

    return on_its_own_loop


def now() -> float:
    """Seconds on the clock of the running test."""
    return asyncio.get_running_loop().time()


async def settle(turns: int = 50) -> None:
    """Let every task go on until it waits for the clock."""
    for _ in range(turns):
        await asyncio.sleep(0)

"""Runs asyncio tests on a virtual clock, so that hours of sleeping take no time.

Only for code that waits for nothing outside of its event loop: sockets and threads need real time.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

MAX_ITERATIONS = 5_000
"""Iterations of the event loop at one time of the clock; more count as an endless loop."""


class _JumpingSelector(selectors.DefaultSelector):
    """Advances the clock to the next timer instead of waiting for it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self._iterations = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            self._iterations += 1
            if self._iterations > MAX_ITERATIONS:
                raise AssertionError("an endless loop: the clock does not advance")
        elif timeout is None:
            raise AssertionError("every task waits for something that will never happen")
        else:
            self.now += timeout
            self._iterations = 0
        return ready


class _VirtualTimeLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._clock = _JumpingSelector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now


def run(test: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to completion on a virtual clock that starts at 0."""
    with asyncio.Runner(loop_factory=_VirtualTimeLoop) as runner:
        return runner.run(test)


def on_virtual_time(
    test: Callable[Parameters, Coroutine[Any, Any, Result]],
) -> Callable[Parameters, Result]:
    """Decorate an async test to run on a virtual clock; its fixtures must not be async."""

    @functools.wraps(test)
    def run_test(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        return run(test(*args, **kwargs))

    return run_test


def now() -> float:
    """Return the time of the running test's clock in seconds."""
    return asyncio.get_running_loop().time()


async def settle(iterations: int = 50) -> None:
    """Let every task run until it waits for the clock."""
    for _ in range(iterations):
        await asyncio.sleep(0)

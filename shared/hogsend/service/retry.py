"""Retry an operation until the dependency it needs is available."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Generic, NamedTuple, Never, TypeVar

import stamina
import stamina.instrumentation
import structlog
from prometheus_client import Counter

from hogsend.contract.errors import HogsendError, Unavailable

log = structlog.get_logger(__name__)

Result = TypeVar("Result")

WAIT_INITIAL_SECONDS = 0.1
WAIT_MAX_SECONDS = 5.0

RETRIES = Counter(
    "hogsend_retries",
    "Attempts that were repeated because a dependency was not available",
    ["operation", "error"],
)

_waiting: dict[object, str] = {}
"""Why each operation that is being retried failed last, oldest operation first."""


class Outcome(NamedTuple, Generic[Result]):
    """What the attempt that succeeded returned."""

    result: Result
    attempts: int
    """1 when no attempt failed. A failed attempt may have taken effect all the same."""


async def retry_until_available(
    action: Callable[[], Awaitable[Result]],
    *,
    on: tuple[type[Exception], ...] = (Unavailable,),
    wait_max: float = WAIT_MAX_SECONDS,
) -> Outcome[Result]:
    """Repeat `action` until it raises none of the errors in `on`.

    The first pause is a tenth of a second, to which stamina adds up to one; each doubles the last.
    Cancel the call to give up: there is no limit. The first failure is logged as a warning, the
    following ones at debug level, and each is counted in `hogsend_retries_total` under the
    qualified name of `action`.

    Args:
        action: called without arguments, so that none can be logged.
        on: errors that may be gone at the next attempt; every other one is raised.
        wait_max: longest pause in seconds.
    """
    operation = object()
    attempts = 0

    @stamina.retry(
        on=on,
        attempts=None,
        timeout=None,
        wait_initial=WAIT_INITIAL_SECONDS,
        wait_max=wait_max,
    )
    @functools.wraps(action)
    async def attempt() -> Result:
        nonlocal attempts
        attempts += 1
        try:
            return await action()
        except on as error:
            _waiting[operation] = _reason(error)
            raise

    try:
        return Outcome(await attempt(), attempts)
    finally:
        _waiting.pop(operation, None)


async def repeat_every(
    seconds: float,
    action: Callable[[], Awaitable[object]],
    *,
    on: tuple[type[Exception], ...] = (Unavailable,),
) -> Never:
    """Run `action` now and `seconds` after each time it succeeded; cancel the call to stop.

    In between it is retried as by `retry_until_available`.
    """
    while True:
        await retry_until_available(action, on=on)
        await asyncio.sleep(seconds)


def waiting_for() -> str | None:
    """Why this process cannot go on with some of its work right now; None when it can."""
    return next(iter(_waiting.values()), None)


def _reason(error: Exception) -> str:
    # The text of another library's error may quote a statement's values or an address's password.
    return str(error) if isinstance(error, HogsendError) else type(error).__name__


def _report(details: stamina.instrumentation.RetryDetails) -> None:
    RETRIES.labels(details.name, type(details.caused_by).__name__).inc()
    say = log.warning if details.retry_num == 1 else log.debug
    # A full disk and a lost connection are both "PostgreSQL is not available".
    cause = details.caused_by.__cause__
    say(
        "retrying until available",
        operation=details.name,
        reason=_reason(details.caused_by),
        cause=type(cause).__name__ if cause else None,
        retry=details.retry_num,
        wait_seconds=round(details.wait_for, 2),
    )


# stamina's own hooks label a counter with the number of the attempt, which makes a new time series
# with every attempt of an outage, and log the arguments of what they retry.
stamina.instrumentation.set_on_retry_hooks([_report])

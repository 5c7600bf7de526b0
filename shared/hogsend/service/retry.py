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
"""The last error of each operation that is being retried, the oldest operation first."""


class Outcome(NamedTuple, Generic[Result]):
    """The result of an operation that succeeded at last."""

    result: Result
    attempts: int
    """Number of attempts. Above 1, an attempt that failed may have taken effect nevertheless."""


async def retry_until_available(
    action: Callable[[], Awaitable[Result]],
    *,
    on: tuple[type[Exception], ...] = (Unavailable,),
    wait_max: float = WAIT_MAX_SECONDS,
) -> Outcome[Result]:
    """Repeat `action` until it raises none of the errors in `on`.

    There is no limit of attempts; cancel the call to give up. The first pause is 0.1 s, each pause
    doubles the previous one up to `wait_max`, and stamina adds up to one second of jitter. The
    first failure is logged as a warning, later ones at debug level. Each one is counted in
    `hogsend_retries_total` with the qualified name of `action`.

    Args:
        action: called without arguments, so that no argument can get into the log.
        on: errors after which the action is repeated; every other error is raised.
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
    """Run `action` now, and again `seconds` after each success, until cancelled.

    A failure is retried as in `retry_until_available`.
    """
    while True:
        await retry_until_available(action, on=on)
        await asyncio.sleep(seconds)


def waiting_for() -> str | None:
    """Return the last error of the operation that is being retried longest; None if none is."""
    return next(iter(_waiting.values()), None)


def _reason(error: Exception) -> str:
    # Errors of other libraries may quote the values of a statement, or a password in an address.
    return str(error) if isinstance(error, HogsendError) else type(error).__name__


def _report(details: stamina.instrumentation.RetryDetails) -> None:
    RETRIES.labels(details.name, type(details.caused_by).__name__).inc()
    write = log.warning if details.retry_num == 1 else log.debug
    # The reason alone does not tell, for example, a full disk from a lost connection: both are
    # "PostgreSQL is not available".
    cause = details.caused_by.__cause__
    write(
        "retrying until available",
        operation=details.name,
        reason=_reason(details.caused_by),
        cause=type(cause).__name__ if cause else None,
        retry=details.retry_num,
        wait_seconds=round(details.wait_for, 2),
    )


# stamina's own hooks label a counter with the attempt's number, which creates a new time series for
# each attempt during an outage. They also log the arguments of the operation.
stamina.instrumentation.set_on_retry_hooks([_report])

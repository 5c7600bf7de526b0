"""Retry an operation until its dependency is available, or after a conflict of transactions."""

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
WAIT_CONFLICT_SECONDS = 0.01

RETRIES = Counter(
    "hogsend_retries",
    "Attempts that were repeated: a dependency was not available, or two transactions conflicted",
    ["operation", "error"],
)

_waiting: dict[object, str] = {}
"""The last error of each operation that is being retried, the oldest operation first."""


class Conflict(Exception):
    """A transaction failed because of another one; `__cause__` is the database's error."""


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


async def retry_after_conflict(
    change: Callable[[], Awaitable[Result]],
    *,
    is_conflict: Callable[[Exception], bool],
    attempts: int | None,
    wait_max: float,
    wait_jitter: float,
) -> Result:
    """Repeat `change` while other transactions conflict with it.

    Unlike `retry_until_available` this reports no outage: the dependency is available, and the
    other transaction is short. So the first pause is 0.01 s, and retries are logged at debug level.
    Each one is counted in `hogsend_retries_total` with the qualified name of `change`.

    Args:
        change: called without arguments, so that no argument can get into the log.
        is_conflict: whether an error was caused by another transaction.
        attempts: most attempts, after which the last error is raised; None for no limit.
        wait_max: longest pause in seconds.
        wait_jitter: most that is added to a pause, in seconds.
    """

    @stamina.retry(
        on=Conflict,
        attempts=attempts,
        timeout=None,
        wait_initial=WAIT_CONFLICT_SECONDS,
        wait_max=wait_max,
        wait_jitter=wait_jitter,
    )
    @functools.wraps(change)
    async def attempt() -> Result:
        try:
            return await change()
        except Exception as error:
            if is_conflict(error):
                raise Conflict from error
            raise

    try:
        return await attempt()
    except Conflict as conflict:
        raise conflict.__cause__ or conflict from None


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
    operation = details.name.removesuffix(".<locals>.<lambda>")
    error, cause = details.caused_by, details.caused_by.__cause__
    wait_seconds = round(details.wait_for, 2)
    if isinstance(error, Conflict):
        reason = type(cause).__name__
        RETRIES.labels(operation, reason).inc()
        log.debug(
            "retrying after a conflict",
            operation=operation,
            reason=reason,
            retry=details.retry_num,
            wait_seconds=wait_seconds,
        )
        return
    RETRIES.labels(operation, type(error).__name__).inc()
    write = log.warning if details.retry_num == 1 else log.debug
    write(
        "retrying until available",
        operation=operation,
        reason=_reason(error),
        # The reason alone does not tell, for example, a full disk from a lost connection: both are
        # "PostgreSQL is not available".
        cause=type(cause).__name__ if cause else None,
        retry=details.retry_num,
        wait_seconds=wait_seconds,
    )


# stamina's own hooks label a counter with the attempt's number, which creates a new time series for
# each attempt during an outage. They also log the arguments of the operation.
stamina.instrumentation.set_on_retry_hooks([_report])

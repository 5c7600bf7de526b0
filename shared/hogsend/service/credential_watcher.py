"""Keeps values that depend on a provider's credential up to date.

A service subscribes to the event that credentials publishes with each change, and then fetches such
values again. As a fallback for a lost event it also fetches them every 30 s, the limit that the
spec sets. Events may be lost during a reconnection, so a reconnection counts as a change.

A process has one watcher for each provider, and everything that depends on the credential uses it:
bearers, the project key, the private host, person reads and the webhook secret. Each of them is a
`Watched` value.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import structlog

from hogsend.contract.credentials import CredentialChanged
from hogsend.contract.errors import HogsendError
from hogsend.service import metrics
from hogsend.transport.background import run_in_background

log = structlog.get_logger(__name__)

REVALIDATE_SECONDS = 30.0
"""Maximum age of a value before it is fetched again (the spec's limit for a lost event)."""
UNUSABLE_RETRY_SECONDS = 0.5
"""Interval of the attempts to fetch an eager value while the cached one is not current, and missing
or not usable."""

Value = TypeVar("Value")
Clock = Callable[[], float]
OnChange = Callable[[CredentialChanged | None], None]
"""Called with each change; with None when a change may have been missed."""


class Watched(Generic[Value]):
    """A cached value that depends on the credential.

    The value is current until the credential changes or `REVALIDATE_SECONDS` have passed. If the
    credential changes while the value is being fetched, the result may belong to the previous
    credential: callers that wait for it get it, but it is never current.
    """

    def __init__(
        self,
        name: str,
        fetch: Callable[[], Awaitable[Value]],
        clock: Clock,
        *,
        eager: bool,
        on_value: Callable[[Value], None] | None,
        is_usable: Callable[[Value], bool],
    ) -> None:
        """See `CredentialWatcher.watch`."""
        self.name = name
        self.eager = eager
        self._is_usable = is_usable
        self._fetch = fetch
        self._clock = clock
        self._on_value = on_value
        self._value: Value | None = None
        self._fetched_at: float | None = None
        self._changes = 0
        self._fetching: asyncio.Task[Value] | None = None

    @property
    def value(self) -> Value | None:
        """The cached value, current or not; None before the first."""
        return self._value

    @property
    def is_current(self) -> bool:
        """Whether no change is known since the value was fetched, at most 30 s ago."""
        return (
            self._fetched_at is not None and self._clock() < self._fetched_at + REVALIDATE_SECONDS
        )

    @property
    def is_usable(self) -> bool:
        """Whether there is a value, and `is_usable` of `CredentialWatcher.watch` accepts it."""
        return self._value is not None and self._is_usable(self._value)

    async def get(self) -> Value:
        """Return the current value; fetch it if the cached one is not current.

        Raises:
            HogsendError: the credentials service could not be reached.
        """
        if self._value is not None and self.is_current:
            return self._value
        return await self.refresh()

    async def refresh(self) -> Value:
        """Fetch the value even if the cached one is current; concurrent callers share one request.

        Raises:
            HogsendError: the credentials service could not be reached.
        """
        if self._fetching is None:
            self._fetching = asyncio.create_task(self.fetch_with(self._fetch))
            self._fetching.add_done_callback(self._fetch_done)
        return await asyncio.shield(self._fetching)

    def invalidate(self) -> None:
        """Mark the cached value, and one that is being fetched, as no longer current."""
        self._changes += 1
        self._fetched_at = None
        self._fetching = None

    async def fetch_with(self, fetch: Callable[[], Awaitable[Value]]) -> Value:
        """Fetch the value with another request than the usual one, and cache the result.

        Raises:
            HogsendError: the credentials service could not be reached.
        """
        changes, started_at = self._changes, self._clock()
        value = await fetch()
        if changes == self._changes:
            self._fetched_at = started_at
            self._store(value)
        elif not self.is_current:
            # The credential changed meanwhile. An outdated value is better than none, and as it is
            # not current the next caller fetches it again.
            self._store(value)
        return value

    def preload(self, value: Value) -> None:
        """Cache the value of an earlier process; as it is not current, `get` fetches it again."""
        self._value = value

    def clear(self) -> None:
        """Remove the cached value."""
        self.invalidate()
        self._value = None

    def _store(self, value: Value) -> None:
        self._value = value
        if self._on_value is not None:
            self._on_value(value)

    def _fetch_done(self, task: asyncio.Task[Value]) -> None:
        if self._fetching is task:
            self._fetching = None
        if not task.cancelled():
            # Retrieve the error: when all callers were cancelled, asyncio would log it.
            task.exception()


class CredentialWatcher:
    """Invalidates all values that depend on a provider's credential whenever it changes."""

    def __init__(self, provider: str, clock: Clock | None = None) -> None:
        """Watch the credential of `provider`.

        Args:
            provider: for example `posthog`.
            clock: returns seconds; the event loop's clock by default.
        """
        self.provider = provider
        self.version: int | None = None
        """Version in the last change that was received; None before the first."""
        self._clock: Clock = clock or (lambda: asyncio.get_running_loop().time())
        self._watched: list[Watched[object]] = []
        self._listeners: list[OnChange] = []
        self._wake = asyncio.Event()

    def watch(
        self,
        name: str,
        fetch: Callable[[], Awaitable[Value]],
        *,
        eager: bool = False,
        on_value: Callable[[Value], None] | None = None,
        is_usable: Callable[[Value], bool] = lambda _value: True,
    ) -> Watched[Value]:
        """Create a value that depends on the credential.

        Args:
            name: for logs and metrics.
            fetch: requests the value from the credentials service.
            eager: fetch the value again as soon as the credential changes, and retry until there is
                a value; otherwise it is fetched when it is needed next.
            on_value: called with each value that is cached.
            is_usable: whether the service can work with a value. While an eager value is not, a
                fetch that failed is repeated after `UNUSABLE_RETRY_SECONDS`, else after
                `REVALIDATE_SECONDS`.
        """
        watched = Watched(
            name,
            fetch,
            self._clock,
            eager=eager,
            on_value=on_value,
            is_usable=is_usable,
        )
        self._watched.append(watched)  # type: ignore[arg-type]
        self._wake.set()
        return watched

    def on_change(self, listener: OnChange) -> None:
        """Call `listener` with each change, before any value is fetched again."""
        self._listeners.append(listener)

    def changed(self, change: CredentialChanged | None) -> None:
        """Handle a change; None when one may have been missed.

        Returns at once: eager values are fetched in the background.
        """
        if change is not None:
            self.version = change.version
        for watched in self._watched:
            watched.invalidate()
        for listener in self._listeners:
            listener(change)
        for watched in self._watched:
            if watched.eager:
                run_in_background(self._refresh(watched))

    def revalidate_now(self) -> None:
        """Have `revalidate` fetch the eager values that are not current, without waiting 30 s."""
        self._wake.set()

    async def reconnected(self) -> None:
        """Handle a reconnection as a change: an event may have been lost."""
        self.changed(None)

    async def revalidate(self) -> None:
        """Fetch eager values that are not current; never returns.

        Checks them every 30 s, and every 0.5 s while one of them is missing or not usable.
        """
        while True:
            # Cleared before the values are checked, so that a call of `revalidate_now` during the
            # checks causes another round.
            self._wake.clear()
            eager = [watched for watched in self._watched if watched.eager]
            for watched in eager:
                if not watched.is_current:
                    await self._refresh(watched)
            is_usable = all(watched.is_usable for watched in eager)
            await self._pause(REVALIDATE_SECONDS if is_usable else UNUSABLE_RETRY_SECONDS)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _refresh(self, watched: Watched[object]) -> None:
        try:
            await watched.refresh()
        except HogsendError as error:
            metrics.FAILURES.labels(watched.name, error.code).inc()
            log.debug(
                "value not fetched; it is fetched again when it is needed",
                value=watched.name,
                reason=str(error),
            )

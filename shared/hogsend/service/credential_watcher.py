"""Follows one provider's credential: values that depend on it are read again when it changes.

The credential event is what makes a service ask again. Asking every 30 s is the backstop for a lost
event (the spec's bound), never the mechanism. A reconnection may have lost an event, so it counts
as a change.

One watcher a process and provider stands under everything that depends on the credential: bearers,
the project key, the private host, person reads, the webhook secret. Each holds a `Watched` value.
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
"""An answer older than this is asked for again (the spec's bound for a lost event)."""
UNKNOWN_RETRY_SECONDS = 0.5
"""How often a value that nothing is known about yet, and that is wanted at once, is asked for."""

Value = TypeVar("Value")
Clock = Callable[[], float]
OnChange = Callable[[CredentialChanged | None], None]
"""Told about every change; None when a change may have been missed."""


class Watched(Generic[Value]):
    """An answer about the credential, and whether it is still the last word.

    An answer is current until the credential changes, or `REVALIDATE_SECONDS` have passed. One that
    a change overtook, having been asked for before, is given to its callers and is never current:
    it may tell of the credential before.
    """

    def __init__(
        self,
        name: str,
        ask: Callable[[], Awaitable[Value]],
        clock: Clock,
        *,
        at_once: bool,
        on_answer: Callable[[Value], None] | None,
        is_settled: Callable[[Value], bool],
    ) -> None:
        """See `CredentialWatcher.watch`."""
        self.name = name
        self.at_once = at_once
        self._is_settled = is_settled
        self._ask = ask
        self._clock = clock
        self._on_answer = on_answer
        self._held: Value | None = None
        self._asked_at: float | None = None
        self._changes = 0
        self._asking: asyncio.Task[Value] | None = None

    @property
    def held(self) -> Value | None:
        """The last answer, current or not; None before the first."""
        return self._held

    @property
    def is_current(self) -> bool:
        """Whether `held` is the last word, as far as can be known."""
        return self._asked_at is not None and self._clock() < self._asked_at + REVALIDATE_SECONDS

    @property
    def is_settled(self) -> bool:
        """Whether there is an answer that one can work with."""
        return self._held is not None and self._is_settled(self._held)

    async def get(self) -> Value:
        """Give the current answer, asking for it when there is none.

        Raises:
            HogsendError: the credentials service cannot be asked.
        """
        if self._held is not None and self.is_current:
            return self._held
        return await self.refresh()

    async def refresh(self) -> Value:
        """Ask, whatever is held; callers at the same time share one question.

        Raises:
            HogsendError: the credentials service cannot be asked.
        """
        if self._asking is None:
            self._asking = asyncio.create_task(self._question(self._ask))
            self._asking.add_done_callback(self._asked)
        return await asyncio.shield(self._asking)

    def outdate(self) -> None:
        """Take what is held, and what is being asked, for no longer the last word."""
        self._changes += 1
        self._asked_at = None
        self._asking = None

    async def ask(self, ask: Callable[[], Awaitable[Value]]) -> Value:
        """Ask in another way, and hold the answer like any other.

        Raises:
            HogsendError: the credentials service cannot be asked.
        """
        return await self._question(ask)

    def assume(self, answer: Value) -> None:
        """Hold what an earlier process was answered, until the question is asked anew."""
        self._held = answer

    def forget(self) -> None:
        """Hold nothing, until it is asked for again."""
        self.outdate()
        self._held = None

    async def _question(self, ask: Callable[[], Awaitable[Value]]) -> Value:
        changes, asked_at = self._changes, self._clock()
        answer = await ask()
        if changes == self._changes:
            self._asked_at = asked_at
            self._hold(answer)
        elif not self.is_current:
            # Overtaken by a change: better than nothing, and asked for again the next time.
            self._hold(answer)
        return answer

    def _hold(self, answer: Value) -> None:
        self._held = answer
        if self._on_answer is not None:
            self._on_answer(answer)

    def _asked(self, task: asyncio.Task[Value]) -> None:
        if self._asking is task:
            self._asking = None
        if not task.cancelled():
            # Its callers may have given up; the error was theirs.
            task.exception()


class CredentialWatcher:
    """Hears of every change of a provider's credential, for all that depends on it."""

    def __init__(self, provider: str, clock: Clock | None = None) -> None:
        """Follow `provider`; a test may bring a clock that gives seconds."""
        self.provider = provider
        self.version: int | None = None
        """Version of the last change heard of; None before the first."""
        self._clock: Clock = clock or (lambda: asyncio.get_running_loop().time())
        self._watched: list[Watched[object]] = []
        self._listeners: list[OnChange] = []
        self._wake = asyncio.Event()

    def watch(
        self,
        name: str,
        ask: Callable[[], Awaitable[Value]],
        *,
        at_once: bool = False,
        on_answer: Callable[[Value], None] | None = None,
        is_settled: Callable[[Value], bool] = lambda _answer: True,
    ) -> Watched[Value]:
        """Make a value that follows the credential.

        Args:
            name: for logs and metrics.
            ask: asks the credentials service.
            at_once: ask again the moment the credential changes, and until there is an answer;
                otherwise when the value is needed next.
            on_answer: told every answer that is held.
            is_settled: whether an answer is one to work with; one that is not is asked for again
                soon.
        """
        watched = Watched(
            name,
            ask,
            self._clock,
            at_once=at_once,
            on_answer=on_answer,
            is_settled=is_settled,
        )
        self._watched.append(watched)  # type: ignore[arg-type]
        self._wake.set()
        return watched

    def on_change(self, listener: OnChange) -> None:
        """Call `listener` at every change, before anything is asked again."""
        self._listeners.append(listener)

    def changed(self, change: CredentialChanged | None) -> None:
        """Take a change in; None when one may have been missed.

        Does not wait: values that are wanted at once are asked for in the background.
        """
        if change is not None:
            self.version = change.version
        for watched in self._watched:
            watched.outdate()
        for listener in self._listeners:
            listener(change)
        for watched in self._watched:
            if watched.at_once:
                run_in_background(self._renewed(watched))

    def hurry(self) -> None:
        """Ask now for what is wanted at once and not current."""
        self._wake.set()

    async def reconnected(self) -> None:
        """Count a reconnection as a change: an event may have been lost."""
        self.changed(None)

    async def revalidate(self) -> None:
        """Ask for what is wanted at once, every 30 s and until it is known; cancel it to stop."""
        while True:
            # Before anything is looked at: what is hurried from now on is for the next round.
            self._wake.clear()
            wanted = [watched for watched in self._watched if watched.at_once]
            for watched in wanted:
                if not watched.is_current:
                    await self._renewed(watched)
            unknown = any(not watched.is_settled for watched in wanted)
            await self._pause(UNKNOWN_RETRY_SECONDS if unknown else REVALIDATE_SECONDS)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _renewed(self, watched: Watched[object]) -> None:
        try:
            await watched.refresh()
        except HogsendError as error:
            metrics.FAILURES.labels(watched.name, error.code).inc()
            log.debug(
                "not read; it will be read again when it is needed",
                what=watched.name,
                reason=str(error),
            )

"""Permission errors of the server, passed on to the calls that they are about.

To a publish or subscription without permission the server sends an error that names the subject. It
sends no reply, so that a request would wait for its whole timeout.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine
from typing import Any, TypeAlias, TypeVar
from weakref import WeakValueDictionary

import nats.errors

from hogsend.contract.consumers import unmapped
from hogsend.contract.discovery import PINGS
from hogsend.contract.errors import Forbidden, Unavailable
from hogsend.contract.permissions import inbox_prefix
from hogsend.transport.publisher import Publisher

_QUOTED = r'"((?:[^"\\]|\\.)+)"'
_PUBLISH = re.compile(f"permissions violation for publish to {_QUOTED}", re.IGNORECASE)
_SUBSCRIPTION = re.compile(f"permissions violation for subscription to {_QUOTED}", re.IGNORECASE)

_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|u(000[0-9a-f]{5}|[0-9a-f]{4})|(.))", re.IGNORECASE)
"""An escape sequence of Go (`%q`), after nats-py has made the text lower case: `\\U` has become
`\\u`, and `\\u` with three zeros was an escape of eight digits."""
_LETTERS = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}

T = TypeVar("T")

_Futures: TypeAlias = WeakValueDictionary[str, asyncio.Future[None]]
"""Futures of the calls that wait for a refusal, by subject in lower case."""


class Refusals:
    """The refused subjects of one connection, and the calls that wait for one.

    Subjects are in lower case, as nats-py passes on the server's errors.
    """

    def __init__(self, user: str, publisher: Publisher) -> None:
        """Start without a refusal.

        Args:
            user: NATS user of the connection.
            publisher: its messages on a refused subject fail.
        """
        self.subscriptions: set[str] = set()
        """Subjects that the server has refused to let this user subscribe to."""
        self.is_inbox_refused = False
        """Whether the server refused the user's own inbox, where all replies arrive."""
        self._pings: set[str] = set()
        self._user = user
        self._publisher = publisher
        # Weak: consumers' names make the number of subjects unbounded, so that a future is kept
        # only for as long as a call waits for it.
        self._publishing = _Futures()
        self._subscribing = _Futures()

    def of(self, subject: str) -> asyncio.Future[None]:
        """Return a future that is done once the server refuses a publish to `subject`."""
        return _future_of(self._publishing, subject)

    def of_subscription(self, subject: str) -> asyncio.Future[None]:
        """Return a future that is done once the server refuses a subscription to `subject`.

        An earlier refusal does not count: a server keeps its connections when it reloads its
        configuration.
        """
        return _future_of(self._subscribing, subject)

    def error(self, subject: str) -> Forbidden:
        """Return the error to raise for a refused publish to `subject`."""
        if self.is_inbox_refused:
            inbox = f"{inbox_prefix(self._user)}.>"
            return Forbidden(
                f"this NATS user may not subscribe to {inbox}, where {str(self._user)!r} receives "
                "replies"
            )
        return Forbidden(f"NATS user {str(self._user)!r} may not publish to {subject}")

    def is_ping_refused(self, subject: str) -> bool:
        """Whether the server refuses pings to `subject`. Each refusal is logged as an error."""
        return subject.lower() in self._pings

    async def wait_unless_refused(
        self,
        subject: str,
        request: Coroutine[Any, Any, T],
        *,
        seconds: float | None = None,
        lost: asyncio.Future[Unavailable] | None = None,
    ) -> T:
        """Await a call of nats-py that sends a request to `subject`, and fail fast at a refusal.

        Raises:
            Forbidden: this NATS user may not publish to `subject`, or not receive replies. nats-py
                would time out instead.
            Unavailable: `lost` is done, and this is its result.
            nats.errors.TimeoutError: it took longer than `seconds`.
        """
        if self.is_inbox_refused:
            request.close()
            raise self.error(subject)
        refusal, reply = self.of(subject), asyncio.ensure_future(request)
        waiting: set[asyncio.Future[Any]] = {reply, refusal}
        if lost is not None:
            waiting.add(lost)
        try:
            await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if reply.done():
                return reply.result()
        finally:
            reply.cancel()
        if refusal.done():
            raise self.error(subject)
        if lost is not None and lost.done():
            raise lost.result()
        raise nats.errors.TimeoutError

    def process_error(self, text: str) -> None:
        """End the calls that an error of the server is about, if it is a refusal."""
        if match := _SUBSCRIPTION.search(text):
            self._refuse_subscription(_unescape(match[1]).lower())
        elif match := _PUBLISH.search(text):
            for subject in unmapped(_unescape(match[1])):
                key = subject.lower()
                self._publisher.fail_refused_subject(key, str(self.error(key)))
                _resolve(self._publishing, key)
                if subject.upper().startswith(PINGS):
                    self._pings.add(key)

    def reset(self) -> None:
        """Forget all refusals: the next server may have other permissions."""
        self.subscriptions.clear()
        self._pings.clear()
        self.is_inbox_refused = False
        self._publisher.set_acks_refused("")

    def _refuse_subscription(self, subject: str) -> None:
        self.subscriptions.add(subject)
        _resolve(self._subscribing, subject)
        if not subject.startswith(f"{inbox_prefix(self._user)}.".lower()):
            return
        # Without its inbox the user receives no reply and no acknowledgement.
        self.is_inbox_refused = True
        self._publisher.set_acks_refused(str(self.error(subject)))
        for waiting in list(self._publishing):
            _resolve(self._publishing, waiting)


def _unescape(quoted: str) -> str:
    return _ESCAPE.sub(_character, quoted)


def _character(escape: re.Match[str]) -> str:
    byte, code, letter = escape.groups()
    if letter is not None:
        return _LETTERS.get(letter, letter)
    return chr(int(byte or code, 16))


def _future_of(futures: _Futures, subject: str) -> asyncio.Future[None]:
    key = subject.lower()
    future = futures.get(key)
    if future is None:
        future = futures[key] = asyncio.get_running_loop().create_future()
    return future


def _resolve(futures: _Futures, key: str) -> None:
    if (future := futures.pop(key, None)) and not future.done():
        future.set_result(None)

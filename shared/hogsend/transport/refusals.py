"""What the server refuses to one user: it names the subject, and answers nothing else."""

from __future__ import annotations

import asyncio
import re
from typing import TypeAlias
from weakref import WeakValueDictionary

from hogsend.contract.consumers import unmapped
from hogsend.contract.errors import Forbidden
from hogsend.contract.permissions import inbox_prefix
from hogsend.transport.publisher import Publisher

_QUOTED = r'"((?:[^"\\]|\\.)+)"'
_PUBLISH = re.compile(f"permissions violation for publish to {_QUOTED}", re.IGNORECASE)
_SUBSCRIPTION = re.compile(f"permissions violation for subscription to {_QUOTED}", re.IGNORECASE)

_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|u(000[0-9a-f]{5}|[0-9a-f]{4})|(.))", re.IGNORECASE)
"""How Go writes what is not printed as it is (`%q`), in lower case: `\\U` has become `\\u`, and a
character that has three zeros after `\\u` is one that had eight digits."""
_LETTERS = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}

_Waiting: TypeAlias = WeakValueDictionary[str, asyncio.Future[None]]
"""Who waits, by subject in lower case."""


class Refusals:
    """The refusals of one connection, told to who waits for an answer.

    Subjects are in lower case, as nats-py tells what the server says.
    """

    def __init__(self, user: str, publisher: Publisher) -> None:
        """Begin without any.

        Args:
            user: NATS user of the connection.
            publisher: told what it waits for in vain.
        """
        self.subscriptions: set[str] = set()
        """What the server has refused to let this user subscribe to."""
        self.hears_nothing = False
        """Whether it refused the user's own inbox, where everything is answered."""
        self._user = user
        self._publisher = publisher
        # Kept while a caller waits: there is no end of subjects, as they name consumers.
        self._waiting = _Waiting()
        self._listening = _Waiting()

    def of(self, subject: str) -> asyncio.Future[None]:
        """A future that is done once the server refuses to let this user publish to `subject`."""
        return _awaited(self._waiting, subject)

    def of_subscription(self, subject: str) -> asyncio.Future[None]:
        """A future that is done once the server refuses to let this user subscribe to `subject`.

        What it refused before does not count: a server that reads its configuration anew keeps
        its connections.
        """
        return _awaited(self._listening, subject)

    def error(self, subject: str) -> Forbidden:
        """The error for a refused subject."""
        if self.hears_nothing:
            inbox = f"{inbox_prefix(self._user)}.>"
            return Forbidden(
                f"this NATS user may not subscribe to {inbox}, where {str(self._user)!r} "
                "is answered"
            )
        return Forbidden(f"NATS user {str(self._user)!r} may not publish to {subject}")

    def read(self, said: str) -> None:
        """Tell who waits, if what the server said is a refusal."""
        if refused := _SUBSCRIPTION.search(said):
            self._subscription(_unescaped(refused[1]).lower())
        elif refused := _PUBLISH.search(said):
            for subject in unmapped(_unescaped(refused[1])):
                key = subject.lower()
                self._publisher.refused(key, str(self.error(key)))
                _tell(self._waiting, key)

    def forget(self) -> None:
        """Begin anew: the server that is asked next may be configured in another way."""
        self.subscriptions.clear()
        self.hears_nothing = False
        self._publisher.hears_nothing("")

    def _subscription(self, subject: str) -> None:
        self.subscriptions.add(subject)
        _tell(self._listening, subject)
        if not subject.startswith(f"{inbox_prefix(self._user)}.".lower()):
            return
        # Whatever is asked or published is answered there.
        self.hears_nothing = True
        self._publisher.hears_nothing(str(self.error(subject)))
        for waiting in list(self._waiting):
            _tell(self._waiting, waiting)


def _unescaped(quoted: str) -> str:
    return _ESCAPE.sub(_character, quoted)


def _character(escape: re.Match[str]) -> str:
    byte, code, letter = escape.groups()
    if letter is not None:
        return _LETTERS.get(letter, letter)
    return chr(int(byte or code, 16))


def _awaited(waiting: _Waiting, subject: str) -> asyncio.Future[None]:
    key = subject.lower()
    refusal = waiting.get(key)
    if refusal is None:
        refusal = waiting[key] = asyncio.get_running_loop().create_future()
    return refusal


def _tell(waiting: _Waiting, key: str) -> None:
    if (refusal := waiting.pop(key, None)) and not refusal.done():
        refusal.set_result(None)

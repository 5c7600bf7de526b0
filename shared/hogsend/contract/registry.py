"""Every channel and endpoint of the bus, collected where it is declared, so that none is missed.

A domain's module declares its channels and endpoints where its messages are; creating one registers
it. From here come the NATS permissions (`hogsend.contract.permissions`), the AsyncAPI document and
the tables of `docs/bus.md`.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from typing import Any, Generic, TypeVar

import msgspec

from hogsend.contract import subjects
from hogsend.contract.base import Message
from hogsend.contract.streams import StreamName
from hogsend.contract.users import User

Request = TypeVar("Request", bound=Message)
Reply = TypeVar("Reply", bound=Message)

_channels: dict[str, Channel] = {}
_endpoints: dict[str, Endpoint[Any, Any]] = {}


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """A published subject: durable in `stream`, written and read by the users named."""

    subject: str
    stream: StreamName
    message: type[msgspec.Struct]
    publishers: tuple[User, ...]
    subscribers: tuple[User, ...]
    summary: str
    parameter: str = ""
    """What the wildcards in `subject` stand for, for example `source` or `source.slot`."""

    @property
    def address(self) -> str:
        """The subject with its parameters named, as AsyncAPI writes it."""
        names = iter(self.parameter.split("."))
        return re.sub(r"[*>]", lambda _: f"{{{next(names)}}}", self.subject)

    def __post_init__(self) -> None:
        """Collect it.

        Raises:
            ValueError: another channel has this subject.
        """
        _collect(_channels, self.subject, self)


class Endpoint(msgspec.Struct, Generic[Request, Reply], frozen=True, kw_only=True):
    """A request subject: answered by `service`'s queue group, asked by `callers`."""

    service: User
    verb: str
    request: type[Request]
    reply: type[Reply]
    callers: tuple[User, ...]
    summary: str
    deadline: float = 2.0
    """Seconds the service may take, and a caller waits unless it says otherwise."""
    holds_secret: bool = False
    """Whether request or reply hold a secret in clear: not even the operator asks or listens."""
    changes: bool = False
    """Whether it changes what an administrator answers for: others than `callers` are recorded."""
    resource: str = ""
    """Field of the request that says what is changed, for that record."""

    @property
    def subject(self) -> str:
        """The subject requests are sent to."""
        return subjects.rpc(self.service, self.verb)

    def __post_init__(self) -> None:
        """Collect it.

        Raises:
            ValueError: another endpoint has this subject.
        """
        _collect(_endpoints, self.subject, self)


def channels() -> tuple[Channel, ...]:
    """Give every channel there is, sorted by subject."""
    _import_domains()
    return tuple(_channels[subject] for subject in sorted(_channels))


def endpoints() -> tuple[Endpoint[Any, Any], ...]:
    """Give every endpoint there is, sorted by subject."""
    _import_domains()
    return tuple(_endpoints[subject] for subject in sorted(_endpoints))


def _import_domains() -> None:
    package = importlib.import_module("hogsend.contract")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"hogsend.contract.{module.name}")


Declared = TypeVar("Declared")


def _collect(collected: dict[str, Declared], subject: str, declared: Declared) -> None:
    if subject in collected:
        raise ValueError(f"{subject} is declared twice")
    collected[subject] = declared

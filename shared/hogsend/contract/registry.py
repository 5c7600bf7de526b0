"""The registry of all channels and endpoints of the bus.

Each domain module declares its channels and endpoints beside its messages. Creating a `Channel` or
an `Endpoint` registers it, so the registry is complete. The NATS permissions
(`hogsend.contract.permissions`), the AsyncAPI document and the tables of `docs/bus.md` are derived
from the registry.
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
    """A published subject: its stream, its message type, and the users that may use it."""

    subject: str
    stream: StreamName
    message: type[msgspec.Struct]
    publishers: tuple[User, ...]
    subscribers: tuple[User, ...]
    summary: str
    parameter: str = ""
    """Names of the wildcards in `subject`, for example `source` or `source.slot`."""

    @property
    def address(self) -> str:
        """The subject with a named parameter for each wildcard, as AsyncAPI writes it."""
        names = iter(self.parameter.split("."))
        return re.sub(r"[*>]", lambda _: f"{{{next(names)}}}", self.subject)

    def __post_init__(self) -> None:
        """Register the channel.

        Raises:
            ValueError: another channel has this subject.
        """
        _register(_channels, self.subject, self)


class Endpoint(msgspec.Struct, Generic[Request, Reply], frozen=True, kw_only=True):
    """A request subject: `callers` send requests, a replica of `service` replies."""

    service: User
    verb: str
    request: type[Request]
    reply: type[Reply]
    callers: tuple[User, ...]
    summary: str
    deadline: float = 2.0
    """Seconds that a caller waits for the reply, unless it sets its own timeout.

    A service that hangs is noticed earlier: see `hogsend.transport.request_watch`. The service
    cancels its handler after the same time, but not before 10 seconds.
    """
    holds_secret: bool = False
    """Whether request or reply contain a secret in clear. The operator may not call such an
    endpoint."""
    changes: bool = False
    """Whether a request changes state that administrators are accountable for.

    Requests by users that are not in `callers`, such as the operator, go into the audit trail.
    """
    resource: str = ""
    """Field of the request that names the changed resource in the audit trail."""

    @property
    def subject(self) -> str:
        """The subject that requests are sent to."""
        return subjects.rpc(self.service, self.verb)

    def __post_init__(self) -> None:
        """Register the endpoint.

        Raises:
            ValueError: another endpoint has this subject.
        """
        _register(_endpoints, self.subject, self)


def channels() -> tuple[Channel, ...]:
    """Return all channels, sorted by subject."""
    _import_domains()
    return tuple(_channels[subject] for subject in sorted(_channels))


def endpoints() -> tuple[Endpoint[Any, Any], ...]:
    """Return all endpoints, sorted by subject."""
    _import_domains()
    return tuple(_endpoints[subject] for subject in sorted(_endpoints))


def _import_domains() -> None:
    package = importlib.import_module("hogsend.contract")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"hogsend.contract.{module.name}")


Declared = TypeVar("Declared")


def _register(registered: dict[str, Declared], subject: str, declared: Declared) -> None:
    if subject in registered:
        raise ValueError(f"{subject} is declared twice")
    registered[subject] = declared

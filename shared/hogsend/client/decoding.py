"""Decodes messages into events, with properties of the caller's own type."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Generic, TypeAlias, TypeVar, get_args, get_origin

import msgspec
from nats.aio.msg import Msg

from hogsend.contract import subjects
from hogsend.contract.base import Properties
from hogsend.contract.errors import HogsendError, InvalidRequest
from hogsend.contract.events import Event, EventBase
from hogsend.contract.json_text import NOT_JSON
from hogsend.contract.mismatch import Mismatch

P = TypeVar("P")
E = TypeVar("E")

_JSON_VALUES: tuple[object, ...] = ({}, [], "", 0, 0.5, True, None)
"""One value of each type that msgspec decodes JSON into. For a class that it does not support,
msgspec accepts values that are instances of that class."""


class TypedEvent(EventBase, Generic[P], frozen=True):
    """An `Event` whose properties are of a type of yours."""

    properties: P
    email: str | None = None
    person_properties: Properties = msgspec.field(default_factory=dict)
    backfilled: bool = False


class CannotDecode(HogsendError):
    """An event or a credential change is not of the type it is decoded into; no retry helps.

    It takes the place of the event: it counts as done once the next one is requested, and is
    delivered again if the process ends before.
    """

    code = "cannot_decode"

    def __init__(self, message: Msg, type_name: str, error: Exception) -> None:
        mismatch = Mismatch.of(error)
        self.path = ".".join([*mismatch.path, *([mismatch.missing] if mismatch.missing else [])])
        self.reason = mismatch.reason if isinstance(error, NOT_JSON) else repr(error)
        """Why the value at `path` cannot be decoded."""
        self.data: bytes = message.data
        """The message's body, as received."""
        self.event = _decode_untyped(self.data)
        """The event with its properties as received; None when it is not an event at all."""
        headers = message.headers or {}
        self.id: str = self.event.id if self.event else headers.get("Nats-Msg-Id", "")
        """The event's id, or the message's when it is not an event at all."""
        self.name: str = self.event.event if self.event else _name_in_subject(message.subject)
        """The event's name, or the provider of a credential change."""
        where = f" at {self.path}" if self.path else ""
        super().__init__(f"{self.name!r} {self.id} is no {type_name}: {self.reason}{where}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Support copies and pickles, whose constructor gets other arguments."""
        return _restore, (str(self), self.__dict__)

    path: str
    """The field, such as `properties.seats`; empty for the message as a whole."""


Undecodable: TypeAlias = Callable[[CannotDecode], Awaitable[None] | None]
"""Called for a message that cannot be decoded; the message counts as done when it has returned."""


class Decoder(Generic[E]):
    """Decodes messages into one type."""

    def __init__(self, kind: Any) -> None:
        """Decode into the type `kind`.

        Raises:
            InvalidRequest: msgspec cannot decode into such a type.
        """
        self._name = _display_name(kind)
        self.is_typed = get_origin(kind) is TypedEvent
        """Whether it decodes events with properties of the caller's type."""
        try:
            self._decoder: msgspec.json.Decoder[E] = msgspec.json.Decoder(kind)
        except Exception as error:
            # msgspec evaluates annotations, which may raise anything.
            raise InvalidRequest(f"nothing can be decoded into {self._name}: {error}") from error
        if unsupported := _unsupported_classes(kind):
            unknown = f"msgspec does not know {', '.join(unsupported)}"
            instead = "take events without a type, and make it of their properties"
            raise InvalidRequest(f"nothing can be decoded into {self._name}: {unknown}; {instead}")

    def decode(self, message: Msg) -> E:
        """Decode a message's body.

        Raises:
            CannotDecode: it is not of the decoder's type.
        """
        try:
            return self._decoder.decode(message.data)
        except Exception as error:
            # Not only msgspec's errors: `__post_init__` may raise anything, and decoding into a set
            # of unhashable values raises `TypeError`.
            raise CannotDecode(message, self._name, error) from error


def decoder_for(handler: Callable[..., Any], untyped: type[E]) -> Decoder[E]:
    """Return the decoder for a handler: into the `TypedEvent` it is annotated with, or `untyped`.

    Raises:
        InvalidRequest: nothing can be decoded into the annotated type.
    """
    try:
        parameters = inspect.signature(handler, eval_str=True).parameters.values()
    except (NameError, TypeError, ValueError):
        # FastStream reports what is wrong with other annotations.
        return Decoder(untyped)
    kinds = (_without_metadata(parameter.annotation) for parameter in parameters)
    return Decoder(next((kind for kind in kinds if get_origin(kind) is TypedEvent), untyped))


def typed_event(properties: Any) -> Any:
    """Return the type of events whose properties are of the type `properties`.

    Raises:
        InvalidRequest: it is not a type.
    """
    try:
        return TypedEvent[properties]
    except TypeError as error:
        raise InvalidRequest(f"type= takes a type, not {properties!r}") from error


async def call_undecodable(undecodable: Undecodable, error: CannotDecode) -> None:
    """Call the caller's function for an undecodable message, and await it if it is async."""
    result = undecodable(error)
    if inspect.isawaitable(result):
        await result


def _without_metadata(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _restore(text: str, state: dict[str, Any]) -> CannotDecode:
    error = CannotDecode.__new__(CannotDecode, text)
    error.__dict__.update(state)
    return error


def _decode_untyped(data: bytes) -> Event | None:
    try:
        return msgspec.json.decode(data, type=Event)
    except NOT_JSON:
        return None


def _name_in_subject(subject: str) -> str:
    token = subject.removesuffix(".changed").rsplit(".", 1)[-1]
    try:
        return subjects.unescape(token)
    except ValueError:
        return token


def _unsupported_classes(kind: Any) -> list[str]:
    """Return names of classes within a type that msgspec cannot decode, such as pydantic models."""
    unsupported = list[str]()
    visited = set[int]()
    pending: list[object] = [msgspec.inspect.type_info(kind)]
    while pending:
        info = pending.pop()
        if isinstance(info, tuple):
            pending.extend(info)
        elif (
            isinstance(info, (msgspec.inspect.Type, msgspec.inspect.Field))
            and id(info) not in visited
        ):
            visited.add(id(info))
            if isinstance(info, msgspec.inspect.CustomType) and not _has_json_instances(info.cls):
                unsupported.append(_display_name(info.cls))
            pending.extend(getattr(info, field) for field in info.__struct_fields__)
    return unsupported


def _has_json_instances(kind: Any) -> bool:
    """Return whether a value decoded from JSON can be an instance of a class, such as `object`."""
    try:
        return any(isinstance(value, kind) for value in _JSON_VALUES)
    except TypeError:
        # A protocol or a generic class, which msgspec cannot check either.
        return False


def _display_name(kind: Any) -> str:
    """Return the name of a type for error messages; of a typed event, its properties' type."""
    if get_origin(kind) is TypedEvent:
        return _display_name(get_args(kind)[0])
    name = kind.__qualname__ if isinstance(kind, type) else str(kind)
    return name.rsplit("<locals>.", 1)[-1]

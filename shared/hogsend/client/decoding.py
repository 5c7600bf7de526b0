"""Makes events of messages: with properties of the caller's own type, or a typed error."""

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
"""One of each type that msgspec makes of JSON. It takes those that are of a class it does not
know."""


class TypedEvent(EventBase, Generic[P], frozen=True):
    """An `Event` whose properties are of a type of yours."""

    properties: P
    email: str | None = None
    person_properties: Properties = msgspec.field(default_factory=dict)
    backfilled: bool = False


class CannotDecode(HogsendError):
    """An event, or a credential's change, is not of the type it is read as; no retry helps.

    It is handed out as an event would be: it counts as done once the next one is asked for, and is
    delivered again if the process ends before.
    """

    code = "cannot_decode"

    def __init__(self, message: Msg, wanted: str, error: Exception) -> None:
        mismatch = Mismatch.of(error)
        self.path = ".".join([*mismatch.path, *([mismatch.missing] if mismatch.missing else [])])
        self.reason = mismatch.reason if isinstance(error, NOT_JSON) else repr(error)
        """What is wrong there."""
        self.data: bytes = message.data
        """The message's body, as it came."""
        self.event = _untyped(self.data)
        """The event with its properties as they came; None when it is no event at all."""
        headers = message.headers or {}
        self.id: str = self.event.id if self.event else headers.get("Nats-Msg-Id", "")
        """The event's id; the message's when it is no event at all."""
        self.name: str = self.event.event if self.event else _named_by(message.subject)
        """The event's name; of a credential's change, the provider's."""
        where = f" at {self.path}" if self.path else ""
        super().__init__(f"{self.name!r} {self.id} is no {wanted}: {self.reason}{where}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Be copied, and sent to another process, as it is."""
        return _copied, (str(self), self.__dict__)

    path: str
    """The field, such as `properties.seats`; empty when it is the message as a whole."""


Undecodable: TypeAlias = Callable[[CannotDecode], Awaitable[None] | None]
"""Told of a message that cannot be decoded; it counts as done when this has returned."""


class Decoder(Generic[E]):
    """Decodes messages into one type."""

    def __init__(self, kind: Any) -> None:
        """Decode into `kind`.

        Raises:
            InvalidRequest: msgspec cannot decode into such a type.
        """
        self._name = _name(kind)
        self.is_typed = get_origin(kind) is TypedEvent
        """Whether it reads events with properties of a type of the caller's."""
        try:
            self._decoder: msgspec.json.Decoder[E] = msgspec.json.Decoder(kind)
        except Exception as error:
            # Annotations are evaluated, and may raise anything.
            raise InvalidRequest(f"nothing can be decoded into {self._name}: {error}") from error
        if strangers := _unknown_to_msgspec(kind):
            unknown = f"msgspec does not know {', '.join(strangers)}"
            instead = "take events without a type, and make it of their properties"
            raise InvalidRequest(f"nothing can be decoded into {self._name}: {unknown}; {instead}")

    def decode(self, message: Msg) -> E:
        """Decode a message's body.

        Raises:
            CannotDecode: it is something else.
        """
        try:
            return self._decoder.decode(message.data)
        except Exception as error:
            # Not only msgspec's: a type's `__post_init__` may raise anything, and a set of what has
            # no hash raises `TypeError` once it is not empty.
            raise CannotDecode(message, self._name, error) from error


def decoder_for(handler: Callable[..., Any], untyped: type[E]) -> Decoder[E]:
    """What decodes messages for a handler: into the type its annotations name, else `untyped`.

    Raises:
        InvalidRequest: nothing can be decoded into the type it names.
    """
    try:
        taken = inspect.signature(handler, eval_str=True).parameters.values()
    except (NameError, TypeError, ValueError):
        # FastStream says what is wrong with annotations; this is about events only.
        return Decoder(untyped)
    kinds = (_without_metadata(parameter.annotation) for parameter in taken)
    return Decoder(next((kind for kind in kinds if get_origin(kind) is TypedEvent), untyped))


def typed_event(properties: Any) -> Any:
    """The event whose properties are of this type.

    Raises:
        InvalidRequest: it is no type.
    """
    try:
        return TypedEvent[properties]
    except TypeError as error:
        raise InvalidRequest(f"type= takes a type, not {properties!r}") from error


async def told(undecodable: Undecodable, error: CannotDecode) -> None:
    """Tell the caller's function, and wait for it if it is to be waited for."""
    answer = undecodable(error)
    if inspect.isawaitable(answer):
        await answer


def _without_metadata(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _copied(text: str, state: dict[str, Any]) -> CannotDecode:
    error = CannotDecode.__new__(CannotDecode, text)
    error.__dict__.update(state)
    return error


def _untyped(data: bytes) -> Event | None:
    try:
        return msgspec.json.decode(data, type=Event)
    except NOT_JSON:
        return None


def _named_by(subject: str) -> str:
    token = subject.removesuffix(".changed").rsplit(".", 1)[-1]
    try:
        return subjects.unescape(token)
    except ValueError:
        return token


def _unknown_to_msgspec(kind: Any) -> list[str]:
    """Names of the classes in a type that only a hook could decode, such as pydantic's models."""
    strangers = list[str]()
    seen = set[int]()
    waiting: list[object] = [msgspec.inspect.type_info(kind)]
    while waiting:
        one = waiting.pop()
        if isinstance(one, tuple):
            waiting.extend(one)
        elif isinstance(one, (msgspec.inspect.Type, msgspec.inspect.Field)) and id(one) not in seen:
            seen.add(id(one))
            if isinstance(one, msgspec.inspect.CustomType) and not _has_json(one.cls):
                strangers.append(_name(one.cls))
            waiting.extend(getattr(one, field) for field in one.__struct_fields__)
    return strangers


def _has_json(kind: Any) -> bool:
    """Whether JSON has values of a class that msgspec does not know, such as `object`."""
    try:
        return any(isinstance(value, kind) for value in _JSON_VALUES)
    except TypeError:
        # A protocol or a generic, which msgspec cannot check either.
        return False


def _name(kind: Any) -> str:
    """What a type is called in a message; a typed event by what its properties are."""
    if get_origin(kind) is TypedEvent:
        return _name(get_args(kind)[0])
    named = kind.__qualname__ if isinstance(kind, type) else str(kind)
    return named.rsplit("<locals>.", 1)[-1]

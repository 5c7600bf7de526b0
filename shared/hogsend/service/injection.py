"""Dependencies of handlers, injected by type.

A handler names what it needs, `service: Injected[CredentialService]`, and the broker it is included
in gives it the instance it was provided with. The instances are bound once, when the subscriber
starts. FastDepends' own `Context` resolves a dependency again for every message, in a task of its
own, which costs as much as the rest of a request.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")
Handler = Callable[..., Awaitable[Any]]


class _Marker:
    """Marks a parameter as injected."""


_MARKER = _Marker()

if TYPE_CHECKING:
    Injected = Annotated[T, _MARKER]
else:

    class Injected:
        """Annotates a handler's parameter: `Injected[CredentialService]`."""

        def __class_getitem__(cls, kind: type) -> Any:
            return Annotated[kind, _MARKER]


class NotProvided(Exception):
    """A handler needs an instance that its broker was not provided with."""


def injector(provided: Mapping[type, object]) -> Callable[[Handler], Handler]:
    """Make a decorator that binds a handler's injected parameters.

    Args:
        provided: instances by their type.

    Raises:
        NotProvided: by the decorator, naming the handler and the type.
    """

    def bind(handler: Handler) -> Handler:
        wanted = injected_types(handler)
        if not wanted:
            return handler
        instances: dict[str, object] = {}
        for name, kind in wanted.items():
            if kind not in provided:
                called = getattr(handler, "__name__", repr(handler))
                raise NotProvided(
                    f"{called}({name}) needs a {kind.__name__}: call broker.provide(...) with one"
                )
            instances[name] = provided[kind]

        @wraps(handler)
        async def bound(*args: Any, **kwargs: Any) -> Any:
            return await handler(*args, **kwargs, **instances)

        bound.__signature__ = _signature_without(handler, instances)  # type: ignore[attr-defined]
        return bound

    return bind


def injected_types(handler: Handler) -> dict[str, type]:
    """Types of a handler's injected parameters, by name."""
    hints = get_type_hints(inspect.unwrap(handler), include_extras=True)
    return {
        name: get_args(hint)[0]
        for name, hint in hints.items()
        if get_origin(hint) is Annotated and _MARKER in get_args(hint)
    }


def _signature_without(handler: Handler, names: Mapping[str, object]) -> inspect.Signature:
    signature = inspect.signature(handler, eval_str=True)
    kept = [one for name, one in signature.parameters.items() if name not in names]
    return signature.replace(parameters=kept)

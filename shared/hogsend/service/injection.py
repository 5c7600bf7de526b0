"""Injects dependencies into handlers by their type.

A handler declares a dependency as a parameter, `service: Injected[CredentialService]`. The broker
passes the instance of that type which the service gave to `broker.provide`. Instances are bound
once, when the subscriber starts. FastDepends' own `Context` resolves each dependency for every
message, in a task of its own, which costs as much as the rest of a request.
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
    """A handler has a parameter of a type that was not passed to `broker.provide`."""


def injector(provided: Mapping[type, object]) -> Callable[[Handler], Handler]:
    """Create a decorator that binds a handler's injected parameters.

    Args:
        provided: instances by their type.

    Raises:
        NotProvided: raised by the decorator; the message names the handler and the type.
    """

    def bind(handler: Handler) -> Handler:
        types = injected_types(handler)
        if not types:
            return handler
        instances: dict[str, object] = {}
        for name, kind in types.items():
            if kind not in provided:
                function = getattr(handler, "__name__", repr(handler))
                raise NotProvided(
                    f"{function}({name}) needs a {kind.__name__}: call broker.provide(...) with one"
                )
            instances[name] = provided[kind]

        @wraps(handler)
        async def bound(*args: Any, **kwargs: Any) -> Any:
            return await handler(*args, **kwargs, **instances)

        bound.__signature__ = _signature_without(handler, instances)  # type: ignore[attr-defined]
        return bound

    return bind


def injected_types(handler: Handler) -> dict[str, type]:
    """Return the types of a handler's injected parameters, by parameter name."""
    hints = get_type_hints(inspect.unwrap(handler), include_extras=True)
    return {
        name: get_args(hint)[0]
        for name, hint in hints.items()
        if get_origin(hint) is Annotated and _MARKER in get_args(hint)
    }


def _signature_without(handler: Handler, names: Mapping[str, object]) -> inspect.Signature:
    signature = inspect.signature(handler, eval_str=True)
    remaining = [parameter for name, parameter in signature.parameters.items() if name not in names]
    return signature.replace(parameters=remaining)

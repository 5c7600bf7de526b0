"""FastStream internals: the parts of a subscriber, and calling handlers without FastDepends."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from faststream._internal.endpoint.subscriber.call_item import CallsCollection
from faststream.message import StreamMessage
from faststream.middlewares import AckPolicy
from faststream.nats.subscriber.config import (
    NatsSubscriberConfig,
    NatsSubscriberSpecificationConfig,
)
from faststream.nats.subscriber.specification import NatsSubscriberSpecification
from nats.js.api import ConsumerConfig

from hogsend.service.middlewares import ScopeMiddleware

if TYPE_CHECKING:
    from faststream.nats.configs import NatsBrokerConfig


def subscriber_parts(
    subject: str, queue: str, broker_config: NatsBrokerConfig
) -> tuple[NatsSubscriberConfig, NatsSubscriberSpecification, CallsCollection[Any]]:
    """Build the configuration, specification and calls of a subscriber, as FastStream's factory."""
    calls: CallsCollection[Any] = CallsCollection()
    config = NatsSubscriberConfig(
        subject=subject,
        sub_config=ConsumerConfig(),
        _outer_config=broker_config,
        _ack_policy=AckPolicy.MANUAL,
    )
    specification = NatsSubscriberSpecification(
        _outer_config=broker_config,
        calls=calls,
        specification_config=NatsSubscriberSpecificationConfig(
            subject=subject,
            queue=queue or None,
            title_=None,
            description_=None,
            include_in_schema=True,
        ),
    )
    return config, specification, calls


def only_wraps_handlers(middlewares: Any) -> bool:
    """Whether all middlewares use `consume_scope` only, and no other hook of FastStream."""
    kinds = [getattr(middleware, "func", middleware) for middleware in middlewares]
    return all(isinstance(kind, type) and issubclass(kind, ScopeMiddleware) for kind in kinds)


def call_directly(
    calls: CallsCollection[Any],
    around: Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]] | None = None,
) -> None:
    """Bypass FastDepends for handlers that take nothing but their message.

    The decoder has already converted the message to the type in the handler's annotation, and
    `Injected` parameters were bound when the subscriber started. A handler with other parameters,
    such as `Context` or `Depends`, is called through FastDepends as usual.

    Args:
        calls: the handlers of a subscriber.
        around: wraps each call, for example with a timeout.
    """
    for item in calls:
        handler = item.handler
        parameters = inspect.signature(handler._composed_call).parameters  # noqa: SLF001
        if len(parameters) > 1:
            continue
        handler._wrapped_call = _direct(  # noqa: SLF001
            handler._composed_call,  # noqa: SLF001
            takes_message=bool(parameters),
            around=around,
        )


def _direct(
    call: Callable[..., Any],
    *,
    takes_message: bool,
    around: Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]] | None,
) -> Callable[[StreamMessage[Any]], Awaitable[Any]]:
    async def decoded(message: StreamMessage[Any]) -> Any:
        if not takes_message:
            return await call()
        return await call(await message.decode())

    if around is None:
        return decoded

    async def wrapped(message: StreamMessage[Any]) -> Any:
        return await around(partial(decoded, message))

    return wrapped

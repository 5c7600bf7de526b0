"""The broker for FastStream apps of other people's services."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar, cast

from faststream._internal.broker.registrator import Registrator
from faststream._internal.endpoint.call_wrapper import HandlerCallWrapper
from nats.aio.client import Client as NatsClient
from nats.js.api import INBOX_PREFIX, ConsumerConfig

from hogsend.client.address import Tls, connection_to
from hogsend.client.client import Client
from hogsend.client.decoding import Undecodable, decoder_for
from hogsend.client.first_connection import ConnectionLog, open_within
from hogsend.client.subscriptions import Names, credentials_consumer, events_consumer
from hogsend.contract.base import Message
from hogsend.contract.errors import Forbidden
from hogsend.contract.events import Event
from hogsend.contract.permissions import inbox_prefix
from hogsend.contract.streams import StreamName
from hogsend.faststream.linked import LinkedBroker
from hogsend.faststream.subscriber import ChangeSubscriber, ConsumerSubscriber
from hogsend.transport.errors import UNREACHABLE

log = logging.getLogger(__name__)

_HOGSEND_STREAMS = frozenset(map(str, StreamName))

Handler = TypeVar("Handler", bound=Callable[..., Any])


class HogsendBroker(LinkedBroker):
    """A `NatsBroker` that also has decorators for Hogsend's streams."""

    def __init__(
        self,
        url: str | None = None,
        *,
        user: str = "subscriber",
        tls: Tls = None,
        **options: Any,
    ) -> None:
        """Prepare without connecting.

        Args:
            url: NATS address, credentials included; `NATS_URL` from the environment by default.
            user: NATS user of this service when the address carries none.
            tls: require TLS with this context; by default with the files that `NATS_TLS_CA`,
                `NATS_TLS_CERT` and `NATS_TLS_KEY` name, if any. False ignores these files.
            options: options of `NatsBroker`, for example `middlewares` and `logger`.
        """
        self._connection_log = ConnectionLog(log)
        link = connection_to(url, user=user, tls=tls, observer=self._connection_log)
        super().__init__(link, **options)
        self.hogsend = Client(self.link)
        """Persons, flags, captures and engagement, on the same connection."""

    async def start(self) -> None:
        """Connect and subscribe. After an error everything is closed, and it may be started again.

        Raises:
            ConsumerConflict: a durable reads other events.
            Forbidden: NATS refused the user or the password in the address, or this NATS user may
                not subscribe to a subject that the app handles.
            Unavailable: the server's version is not supported. A server that does not respond is
                waited for.
        """
        self._adapt_subscribers()
        try:
            await super().start()
            await self._check_subscriptions()
        except BaseException as error:
            # In a restart loop, each attempt would leave consumers at JetStream otherwise.
            await self.stop(type(error), error, error.__traceback__)
            raise

    async def _connect(self) -> NatsClient:
        if not self.link.connected:
            await open_within(None, self.link, self._connection_log)
        return await super()._connect()

    async def _check_subscriptions(self) -> None:
        # The server refuses a subscription asynchronously. Unchecked, the app would run without
        # ever receiving a message.
        with suppress(*UNREACHABLE):
            await self.link.flush()
        if refused := self.link.refusals.subscriptions:
            user = str(self.link.user)
            raise Forbidden(f"NATS user {user!r} may not subscribe to {', '.join(sorted(refused))}")

    def _adapt_subscribers(self) -> None:
        """Adapt FastStream's own subscribers to the permissions of this NATS user."""
        inbox = f"{inbox_prefix(self.link.user)}.".encode()
        for subscriber in self.subscribers:
            options = getattr(subscriber, "extra_options", {})
            # FastStream's pull subscribers do not use the inbox prefix of their broker.
            if options.get("inbox_prefix") == INBOX_PREFIX:
                options["inbox_prefix"] = inbox
        for stream, _ in self._stream_builder.objects.values():
            if stream.name in _HOGSEND_STREAMS:
                # Ingest creates it. FastStream would create it, or change it to this app's needs.
                stream.declare = False

    def events(
        self,
        names: Names = None,
        *,
        durable: str | None = None,
        undecodable: Undecodable | None = None,
    ) -> Callable[[Handler], Handler]:
        """Handle normalized events, of one name, several or all.

        The handler takes an `Event`, or a `TypedEvent[Plan]` with properties of a type of yours.

        An event is acknowledged when its handler has returned, however long that takes. It is
        redelivered when the handler raised, or when the process ended. An event that does not match
        the handler's type is not passed to it. It is logged and redelivered every few seconds,
        until a version of the app can decode it; other events are handled meanwhile.

        Args:
            names: the event's name, or several; None for all.
            durable: name that the position is stored under, shared by all replicas that use it.
                Without it, only events from now on are received. A durable belongs to its event
                names: an app with other names does not start (`ConsumerConflict`), and the durable
                does not change.
            undecodable: called with the `CannotDecode` of an event that does not match; the event
                is acknowledged when it has returned.

        Raises:
            InvalidRequest: a name is empty or a pattern, the durable name is not valid, or nothing
                can be decoded into the handler's type.
        """
        consumer = events_consumer(names, durable)
        return self._consume(StreamName.EVENTS, consumer, Event, undecodable)

    def credential_changes(self, provider: str | None = None) -> Callable[[Handler], Handler]:
        """Handle credential changes, of one provider or all.

        The handler takes a `CredentialChanged`. It gets the last change of each provider first,
        which is the current state, then every further one, and none twice. After a broken
        connection it gets the last change if that is new; earlier ones may be skipped.
        """
        consumer = credentials_consumer(provider)

        def decorate(handler: Handler) -> Handler:
            config: Any = self.config
            return self._register(
                ChangeSubscriber(StreamName.CREDENTIALS, consumer, config), handler
            )

        return decorate

    def _consume(
        self,
        stream: StreamName,
        consumer: ConsumerConfig,
        message: type[Message],
        undecodable: Undecodable | None = None,
    ) -> Callable[[Handler], Handler]:
        def decorate(handler: Handler) -> Handler:
            subscriber = ConsumerSubscriber(
                stream,
                consumer,
                self.config,  # type: ignore[arg-type]
                decoder=decoder_for(_original(handler), message),
                undecodable=undecodable,
            )
            return self._register(subscriber, handler)

        return decorate

    def _register(self, subscriber: ConsumerSubscriber, handler: Handler) -> Handler:
        Registrator.subscriber(self, subscriber)
        call = subscriber.add_call(parser_=None, decoder_=None, dependencies_=())
        # FastStream's wrapper of the handler: it has the `mock` for tests, and further decorators
        # apply to this subscriber, too.
        return cast("Handler", call(handler))


def _original(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Return the handler itself, also where another decorator of FastStream has wrapped it."""
    return handler._original_call if isinstance(handler, HandlerCallWrapper) else handler  # noqa: SLF001

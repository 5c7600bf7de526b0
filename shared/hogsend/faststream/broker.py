"""The broker of other people's FastStream apps."""

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

_OURS = frozenset(map(str, StreamName))

Handler = TypeVar("Handler", bound=Callable[..., Any])


class HogsendBroker(LinkedBroker):
    """A `NatsBroker` that knows Hogsend's streams; everything of FastStream's works on it too."""

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
            user: name this service is known by when the address does not carry one.
            tls: insist on TLS in this way; by default with the files that `NATS_TLS_CA`,
                `NATS_TLS_CERT` and `NATS_TLS_KEY` name, if any. False takes none of these files.
            options: `NatsBroker`'s own, for example `middlewares` and `logger`.
        """
        self._connecting = ConnectionLog(log)
        link = connection_to(url, user=user, tls=tls, observer=self._connecting)
        super().__init__(link, **options)
        self.hogsend = Client(self.link)
        """Persons, flags, captures and engagement, on the same connection."""

    async def start(self) -> None:
        """Connect and subscribe; where that fails nothing is left of it, and it may be tried again.

        Raises:
            ConsumerConflict: a durable reads other events.
            Forbidden: NATS refused the user or the password in the address, or this NATS user may
                not subscribe to what the app handles.
            Unavailable: the server is too old. One that does not answer is waited for.
        """
        self._adapt_subscribers()
        try:
            await super().start()
            await self._check_subscriptions()
        except BaseException as error:
            # An app that is started again and again would leave consumers at JetStream each time.
            await self.stop(type(error), error, error.__traceback__)
            raise

    async def _connect(self) -> NatsClient:
        if not self.link.connected:
            await open_within(None, self.link, self._connecting)
        return await super()._connect()

    async def _check_subscriptions(self) -> None:
        # The server refuses after the fact: an app that hears nothing would look like a quiet one.
        with suppress(*UNREACHABLE):
            await self.link.flush()
        if refused := self.link.refusals.subscriptions:
            user = str(self.link.user)
            raise Forbidden(f"NATS user {user!r} may not subscribe to {', '.join(sorted(refused))}")

    def _adapt_subscribers(self) -> None:
        """Have FastStream's own subscribers ask for what this NATS user may do."""
        inbox = f"{inbox_prefix(self.link.user)}.".encode()
        for subscriber in self.subscribers:
            options = getattr(subscriber, "extra_options", {})
            # A pull subscriber awaits its messages there, whatever inbox its broker was given.
            if options.get("inbox_prefix") == INBOX_PREFIX:
                options["inbox_prefix"] = inbox
        for stream, _ in self._stream_builder.objects.values():
            if stream.name in _OURS:
                # Ingest makes it; FastStream would make it, or change it to what this app needs.
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

        An event is acknowledged when its handler has returned, however long that takes, and
        redelivered when it raised, or when its process died. One that is not of the handler's type
        does not reach it: it is logged and redelivered every few seconds, while others go on, until
        a version of the app that understands it comes.

        Args:
            names: the event's name, or several; None for all.
            durable: name the position is kept under, shared by all replicas that use it; without
                one, only events from now on are seen. It belongs to its names: an app that asks
                for others does not start (`ConsumerConflict`), and the durable stays as it is.
            undecodable: called with the `CannotDecode` instead; the event is acknowledged when it
                has returned.

        Raises:
            InvalidRequest: a name is empty or a pattern, the durable's name is none, or nothing
                can be decoded into the handler's type.
        """
        consumer = events_consumer(names, durable)
        return self._consuming(StreamName.EVENTS, consumer, Event, undecodable)

    def credential_changes(self, provider: str | None = None) -> Callable[[Handler], Handler]:
        """Handle credential changes, of one provider or all.

        The handler takes a `CredentialChanged`: the current state first, then every change, none
        twice. After a broken connection that is the last one, if it is new.
        """
        consumer = credentials_consumer(provider)

        def decorate(handler: Handler) -> Handler:
            config: Any = self.config
            return self._added(ChangeSubscriber(StreamName.CREDENTIALS, consumer, config), handler)

        return decorate

    def _consuming(
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
                decoder=decoder_for(_as_written(handler), message),
                undecodable=undecodable,
            )
            return self._added(subscriber, handler)

        return decorate

    def _added(self, subscriber: ConsumerSubscriber, handler: Handler) -> Handler:
        Registrator.subscriber(self, subscriber)
        call = subscriber.add_call(parser_=None, decoder_=None, dependencies_=())
        # What FastStream makes of a handler: it has the `mock` of tests, and what another decorator
        # adds to it counts here, too.
        return cast("Handler", call(handler))


def _as_written(handler: Callable[..., Any]) -> Callable[..., Any]:
    """The function itself, where another of FastStream's decorators came before."""
    return handler._original_call if isinstance(handler, HandlerCallWrapper) else handler  # noqa: SLF001

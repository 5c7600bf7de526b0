"""The broker of other people's FastStream apps."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from typing import Any, TypeVar

from faststream._internal.broker.registrator import Registrator
from nats.js.api import ConsumerConfig

from hogsend.client.address import connection_to
from hogsend.client.client import Client
from hogsend.client.subscriptions import Names, credentials_consumer, events_consumer
from hogsend.contract.streams import StreamName
from hogsend.faststream.linked import LinkedBroker
from hogsend.faststream.subscriber import ConsumerSubscriber

log = logging.getLogger(__name__)

Handler = TypeVar("Handler", bound=Callable[..., Any])


class HogsendBroker(LinkedBroker):
    """A `NatsBroker` that knows Hogsend's streams; everything of FastStream's works on it too."""

    def __init__(
        self,
        url: str | None = None,
        *,
        user: str = "subscriber",
        tls: ssl.SSLContext | None = None,
        **options: Any,
    ) -> None:
        """Prepare without connecting.

        Args:
            url: NATS address, credentials included; `NATS_URL` from the environment by default.
            user: name this service is known by when the address does not carry one.
            tls: insist on TLS in this way; by default with the authority `NATS_TLS_CA` names.
            options: `NatsBroker`'s own, for example `middlewares` and `logger`.
        """
        link = connection_to(url, user=user, tls=tls, observer=_observe)
        super().__init__(link, **options)
        self.hogsend = Client(self.link)
        """Persons, flags, captures and engagement, on the same connection."""

    def events(
        self, names: Names = None, *, durable: str | None = None
    ) -> Callable[[Handler], Handler]:
        """Handle normalized events, of one name, several or all; the handler takes an `Event`.

        An event is acknowledged when its handler has returned, however long that takes, and
        redelivered when it raised, or when its process died.

        Args:
            names: the event's name, or several; None for all.
            durable: name the position is kept under, shared by all replicas that use it; without
                one, only events from now on are seen. It belongs to its names: an app that asks
                for others does not start (`ConsumerConflict`), and the durable stays as it is.

        Raises:
            InvalidRequest: a name is empty or a pattern, or the durable's name is none.
        """
        return self._consuming(StreamName.EVENTS, events_consumer(names, durable))

    def credential_changes(self, provider: str | None = None) -> Callable[[Handler], Handler]:
        """Handle credential changes, of one provider or all.

        The handler takes a `CredentialChanged`: the current state first, then every change.
        """
        return self._consuming(StreamName.CREDENTIALS, credentials_consumer(provider))

    def _consuming(
        self, stream: StreamName, consumer: ConsumerConfig
    ) -> Callable[[Handler], Handler]:
        def decorate(handler: Handler) -> Handler:
            subscriber = ConsumerSubscriber(stream, consumer, self.config)  # type: ignore[arg-type]
            Registrator.subscriber(self, subscriber)
            subscriber.add_call(parser_=None, decoder_=None, dependencies_=())(handler)
            return handler

        return decorate


def _observe(what: str, detail: str) -> None:
    log.log(logging.WARNING if what == "error" else logging.INFO, "NATS %s %s", what, detail)

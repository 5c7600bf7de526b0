"""The router a service declares its handlers on: a `NatsRouter` that knows the contract.

    router = ServiceRouter()

    @router.endpoint(CREDENTIALS_GET)
    async def get(request: ProviderRef, service: Injected[CredentialService]) -> CredentialMeta:
        ...

`ServiceRouter.subscriber` is FastStream's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from faststream._internal.broker.registrator import Registrator
from faststream.nats import NatsRouter
from nats.js.api import ConsumerConfig

from hogsend.contract import subjects
from hogsend.contract.contacts import CONTACT_ERASED, ContactErased
from hogsend.contract.credentials import CredentialChanged
from hogsend.contract.registry import Channel, Endpoint
from hogsend.service.requester import published, raw_request
from hogsend.service.subscribers.batches import BatchSubscriber, OnNak
from hogsend.service.subscribers.decoding import decoder_of
from hogsend.service.subscribers.requests import RequestSubscriber

Handler = TypeVar("Handler", bound=Callable[..., Any])
Declaration = Callable[["ServiceRouter"], None]


class ServiceRouter(NatsRouter):
    """Declares endpoints, batches and events of a service; a decorated function stays callable."""

    def __init__(self) -> None:
        super().__init__()
        self.endpoints: list[Endpoint[Any, Any]] = []
        self.published: list[Channel] = []
        self._declarations: list[Declaration] = []

    def copy(self) -> ServiceRouter:
        """Make a router with the same handlers, for another broker.

        A `NatsRouter` belongs to one broker; replicas in one process, in tests, need one each.
        """
        made = type(self)()
        for declare in self._declarations:
            declare(made)
        return made

    def endpoint(self, endpoint: Endpoint[Any, Any]) -> Callable[[Handler], Handler]:
        """Answer the requests of an endpoint, many at a time.

        The handler takes the endpoint's request, and `Injected` dependencies. What it raises as a
        `HogsendError` is the reply.
        """

        def declare(router: ServiceRouter, handler: Handler) -> None:
            subscriber = RequestSubscriber(endpoint, router.config)  # type: ignore[arg-type]
            router.endpoints.append(endpoint)
            router._register(subscriber, handler)

        return self._declaring(declare)

    def raw_requests(
        self, subject: str, queue: str, *, at_once: int = 16
    ) -> Callable[[Handler], Handler]:
        """Answer requests that are no endpoint of ours, with what the handler gives as it is.

        The handler takes a `RawRequest`, and `Injected` dependencies, and gives bytes.

        Args:
            subject: the subjects answered, a pattern.
            queue: the queue group that answers.
            at_once: requests a process answers at a time; more wait in NATS' client.
        """

        def declare(router: ServiceRouter, handler: Handler) -> None:
            NatsRouter.subscriber(
                router,
                subject,
                queue=queue,
                decoder=cast("Any", raw_request),
                max_workers=at_once,
                include_in_schema=False,
            )(handler)

        return self._declaring(declare)

    def batches(
        self,
        stream: str,
        consumer: ConsumerConfig,
        *,
        batch: int = 500,
        workers: int = 1,
        starts_by_itself: bool = True,
        on_nak: OnNak | None = None,
    ) -> Callable[[Handler], Handler]:
        """Consume a stream: the handler takes a `list[Msg]` and acknowledges each message.

        A lone message is handed over at once, up to `batch` under load. When the handler raises,
        its messages are handed over one by one, so that one of them cannot stop the others. What
        it does not acknowledge is given back.

        Args:
            stream: the stream's name.
            consumer: its durable consumer, made when missing.
            batch: most messages at a time.
            workers: batches in hand at a time.
            starts_by_itself: False for a consumer that `BatchSubscriber.run` runs when it is time.
            on_nak: told how many messages were given back.
        """

        def declare(router: ServiceRouter, handler: Handler) -> None:
            subscriber = BatchSubscriber(
                stream,
                consumer,
                router.config,  # type: ignore[arg-type]
                batch=batch,
                workers=workers,
                starts_by_itself=starts_by_itself,
                on_nak=on_nak,
            )
            router._register(subscriber, handler)

        return self._declaring(declare)

    def credential_changes(self, provider: str) -> Callable[[Handler], Handler]:
        """Hear of every change of a provider's credential, in every replica.

        The handler takes a `CredentialChanged`. What is none is counted, logged and left out: the
        credential is asked about every 30 s all the same.
        """
        return self._heard(subjects.credential_changed(provider), CredentialChanged)

    def erasures(self) -> Callable[[Handler], Handler]:
        """Hear of every erasure of a person, in every replica that is connected at that moment.

        The handler takes a `ContactErased`.
        """
        return self._heard(CONTACT_ERASED.subject, ContactErased)

    def publishes(self, *channels: Channel) -> None:
        """Say what this service publishes, for the AsyncAPI document."""

        def declare(router: ServiceRouter) -> None:
            for channel in channels:
                router.published.append(channel)
                router.publisher(
                    channel.subject, schema=channel.message, description=channel.summary
                )

        self._declarations.append(declare)
        declare(self)

    def batch_subscriber(self, handler: Callable[..., Any]) -> BatchSubscriber:
        """Give the subscriber of a handler of batches, to run it.

        Raises:
            LookupError: it is not a handler of batches of this router.
        """
        for subscriber in self.subscribers:
            if isinstance(subscriber, BatchSubscriber) and any(
                call.handler._declared_call is handler  # noqa: SLF001
                for call in subscriber.calls
            ):
                return subscriber
        raise LookupError(f"{handler!r} does not consume batches here")

    def _heard(self, subject: str, kind: type[Any]) -> Callable[[Handler], Handler]:
        def declare(router: ServiceRouter, handler: Handler) -> None:
            # A reply would go to the publisher's inbox, where JetStream's acknowledgement belongs.
            decoder: Any = published(decoder_of(kind))
            NatsRouter.subscriber(router, subject, no_reply=True, decoder=decoder)(handler)

        return self._declaring(declare)

    def _declaring(
        self, declare: Callable[[ServiceRouter, Handler], None]
    ) -> Callable[[Handler], Handler]:
        def decorate(handler: Handler) -> Handler:
            self._declarations.append(lambda router: declare(router, handler))
            declare(self, handler)
            return handler

        return decorate

    def _register(self, subscriber: RequestSubscriber | BatchSubscriber, handler: Handler) -> None:
        # As `NatsRouter.subscriber` does with what FastStream's factory makes.
        Registrator.subscriber(self, subscriber)
        subscriber.add_call(parser_=None, decoder_=None, dependencies_=())(handler)

"""The router on which a service declares its handlers: a `NatsRouter` for the contract.

    router = ServiceRouter()

    @router.endpoint(CREDENTIALS_GET)
    async def get(request: ProviderRef, service: Injected[CredentialService]) -> CredentialMeta:
        ...

`ServiceRouter.subscriber` is inherited from FastStream unchanged.
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
from hogsend.service.requester import raw_request, reject_delivered
from hogsend.service.subscribers.batches import BatchSubscriber, OnNak
from hogsend.service.subscribers.decoding import decoder_of
from hogsend.service.subscribers.requests import RequestSubscriber

Handler = TypeVar("Handler", bound=Callable[..., Any])
Declaration = Callable[["ServiceRouter"], None]

RAW_CONCURRENCY = 16
"""Raw requests that a process handles at a time; more wait in nats-py."""


class ServiceRouter(NatsRouter):
    """Declares the handlers of a service; a decorated function can still be called directly."""

    def __init__(self) -> None:
        super().__init__()
        self.endpoints: list[Endpoint[Any, Any]] = []
        self.published: list[Channel] = []
        self._declarations: list[Declaration] = []

    def copy(self) -> ServiceRouter:
        """Return a router with the same handlers, for another broker.

        A `NatsRouter` belongs to one broker. Replicas in one process, as in tests, need one each.
        """
        router = type(self)()
        for declare in self._declarations:
            declare(router)
        return router

    def endpoint(self, endpoint: Endpoint[Any, Any]) -> Callable[[Handler], Handler]:
        """Handle the requests of an endpoint concurrently.

        The handler takes the endpoint's request and `Injected` dependencies, and returns the reply.
        A `HogsendError` that it raises is sent to the caller.
        """

        def declare(router: ServiceRouter, handler: Handler) -> None:
            subscriber = RequestSubscriber(endpoint, router.config)  # type: ignore[arg-type]
            router.endpoints.append(endpoint)
            router._register(subscriber, handler)

        return self._declaring(declare)

    def raw_requests(self, subject: str, queue: str) -> Callable[[Handler], Handler]:
        """Handle requests that are not in the contract, without decoding and encoding them.

        The handler takes a `RawRequest` and `Injected` dependencies, and returns the reply's bytes.

        Args:
            subject: pattern of the subjects.
            queue: the queue group that shares the requests.
        """

        def declare(router: ServiceRouter, handler: Handler) -> None:
            NatsRouter.subscriber(
                router,
                subject,
                queue=queue,
                decoder=cast("Any", raw_request),
                max_workers=RAW_CONCURRENCY,
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
        auto_start: bool = True,
        on_nak: OnNak | None = None,
    ) -> Callable[[Handler], Handler]:
        """Consume a stream: the handler takes a `list[Msg]` and acknowledges each message.

        A batch is whatever is available: one message when idle, up to `batch` under load. When the
        handler raises, it is called again for each message alone, so that one bad message cannot
        block the others. Messages that it does not acknowledge are nak'ed, and redelivered.

        Args:
            stream: name of the stream.
            consumer: its durable consumer, created when missing.
            batch: maximum number of messages in a batch.
            workers: number of batches that are processed at the same time.
            auto_start: False for a consumer that the service starts itself with
                `BatchSubscriber.run`.
            on_nak: called with the number of messages that were nak'ed.
        """

        def declare(router: ServiceRouter, handler: Handler) -> None:
            subscriber = BatchSubscriber(
                stream,
                consumer,
                router.config,  # type: ignore[arg-type]
                batch=batch,
                workers=workers,
                auto_start=auto_start,
                on_nak=on_nak,
            )
            router._register(subscriber, handler)

        return self._declaring(declare)

    def credential_changes(self, provider: str) -> Callable[[Handler], Handler]:
        """Subscribe every replica to the changes of a provider's credential.

        The handler takes a `CredentialChanged`. A message that is not one is counted, logged and
        dropped: services also poll the credential every 30 s.
        """
        return self._subscribe_all(subjects.credential_changed(provider), CredentialChanged)

    def erasures(self) -> Callable[[Handler], Handler]:
        """Subscribe every replica to erasures of persons; a disconnected replica misses them.

        The handler takes a `ContactErased`.
        """
        return self._subscribe_all(CONTACT_ERASED.subject, ContactErased)

    def publishes(self, *channels: Channel) -> None:
        """Declare what this service publishes, for the AsyncAPI document."""

        def declare(router: ServiceRouter) -> None:
            for channel in channels:
                router.published.append(channel)
                router.publisher(
                    channel.subject, schema=channel.message, description=channel.summary
                )

        self._declarations.append(declare)
        declare(self)

    def batch_subscriber(self, handler: Callable[..., Any]) -> BatchSubscriber:
        """Return the subscriber of a `batches` handler, to run it.

        Raises:
            LookupError: `handler` is not a `batches` handler of this router.
        """
        for subscriber in self.subscribers:
            if isinstance(subscriber, BatchSubscriber) and any(
                call.handler._declared_call is handler  # noqa: SLF001
                for call in subscriber.calls
            ):
                return subscriber
        raise LookupError(f"{handler!r} does not consume batches here")

    def _subscribe_all(self, subject: str, kind: type[Any]) -> Callable[[Handler], Handler]:
        """Subscribe without a queue group, so that every replica receives every message."""

        def declare(router: ServiceRouter, handler: Handler) -> None:
            # The publisher's inbox waits for JetStream's acknowledgement, not for a reply of ours.
            decoder: Any = reject_delivered(decoder_of(kind))
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
        # `NatsRouter.subscriber` does the same with the subscriber that FastStream's factory makes.
        Registrator.subscriber(self, subscriber)
        subscriber.add_call(parser_=None, decoder_=None, dependencies_=())(handler)

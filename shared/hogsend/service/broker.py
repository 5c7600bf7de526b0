"""The broker of a service: FastStream's `NatsBroker` on Hogsend's own NATS connection."""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any

from hogsend.contract.activity import Activity
from hogsend.contract.registry import Endpoint
from hogsend.contract.users import User
from hogsend.faststream.linked import LinkedBroker
from hogsend.service import metrics, tracing
from hogsend.service.audit import AuditMiddleware
from hogsend.service.bus_log import BusLog
from hogsend.service.discovery import discovery_router
from hogsend.service.injection import injector
from hogsend.service.middlewares import (
    CorrelationMiddleware,
    ErrorsMiddleware,
    MeasuringMiddleware,
    TracingMiddleware,
)
from hogsend.service.request_memory import RequestMemory
from hogsend.service.router import ServiceRouter
from hogsend.service.service_stats import ServiceStats
from hogsend.service.settings.shared import BusSettings
from hogsend.service.subscribers.requests import RequestSubscriber
from hogsend.transport.connection import Connection, Observer
from hogsend.transport.tls import client_context


class ServiceBroker(LinkedBroker):
    """The NATS connection of one process, with its handlers, requests and publishers."""

    def __init__(self, user: User, link: Connection) -> None:
        """Prepare without connecting.

        Args:
            user: the service's NATS user; its queue group has the same name.
            link: the connection that everything uses; it retries until it is closed.
        """
        self.user = user
        self.instance = secrets.token_hex(11)
        self.stats = ServiceStats()
        self.endpoints: list[Endpoint[Any, Any]] = []
        """The endpoints of all included routers."""
        self.requests: set[asyncio.Task[Any]] = set()
        """The requests in progress, of all endpoints together. While the service stops, also the
        drains of their subscriptions, during which further requests may arrive."""
        self.request_memory = RequestMemory()
        """The memory budget of the requests in progress, of all endpoints together."""
        metrics.RPC_REQUEST_BYTES.set_function(lambda: self.request_memory.reserved_bytes)
        self._provided: dict[type, object] = {}
        super().__init__(
            link,
            # FastStream would log a line for every message.
            logger=None,
            middlewares=[
                *_tracing_middlewares(),
                CorrelationMiddleware,
                partial(AuditMiddleware, service=user, publish=link.publish),
                partial(MeasuringMiddleware, stats=self.stats),
                ErrorsMiddleware,
            ],
        )
        if traces := tracing.in_use():
            link.publisher.inject = traces.inject
        self.config.broker_config.fd_config.call_decorators = (injector(self._provided),)

    def provide(self, *instances: object) -> None:
        """Inject instances into the handlers with a parameter `Injected[<their type>]`.

        An instance is also injected for its base classes. A later one replaces an earlier one, so
        that a test can replace an instance that the service provided with a fake.
        """
        for instance in instances:
            self._provided.update((kind, instance) for kind in type(instance).__mro__[:-1])

    def include(
        self, router: ServiceRouter, *, activity: Callable[[], Activity] | None = None
    ) -> ServiceRouter:
        """Include a copy of a router, and return the copy.

        The endpoints also become discoverable with `nats micro` (NATS ADR-32).

        Args:
            router: declares the handlers.
            activity: returns the `data` of the service's reply to `$SRV.STATS`.
        """
        own = router.copy()
        self.include_router(own)
        self.endpoints += own.endpoints
        if own.endpoints or activity is not None:
            self.include_router(
                discovery_router(
                    self.user,
                    own.endpoints,
                    self.stats,
                    instance=self.instance,
                    unanswered=self._unanswered,
                    activity=activity,
                )
            )
        return own

    def _unanswered(self) -> set[str]:
        return {
            id
            for subscriber in self.subscribers
            if isinstance(subscriber, RequestSubscriber)
            for id in subscriber.unanswered()
        }


def _tracing_middlewares() -> list[Any]:
    traces = tracing.in_use()
    return [partial(TracingMiddleware, tracing=traces)] if traces else []


def service_broker(user: User, settings: BusSettings) -> ServiceBroker:
    """Build the broker of one of our services from its settings."""
    return ServiceBroker(user, service_link(user, settings, BusLog().observe))


def service_link(user: User, settings: BusSettings, observer: Observer) -> Connection:
    """Prepare the connection of one of our services from its settings."""
    password = settings.nats_password.get_secret_value() if settings.nats_password else None
    return Connection(
        settings.nats_user or user,
        settings.nats_url,
        password=password,
        tls=_tls(settings),
        observer=observer,
    )


def _tls(settings: BusSettings) -> ssl.SSLContext | None:
    ca, certificate = settings.nats_tls_ca, settings.nats_tls_cert
    if ca is None and certificate is None:
        return None
    return client_context(ca, certificate, settings.nats_tls_key)

"""The broker of a service: FastStream's `NatsBroker` on a connection of ours."""

from __future__ import annotations

import asyncio
import secrets
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any

from hogsend.contract.activity import Activity
from hogsend.contract.registry import Endpoint, Reply, Request
from hogsend.contract.users import User
from hogsend.faststream.linked import LinkedBroker
from hogsend.service import metrics, tracing
from hogsend.service.audit import AuditMiddleware
from hogsend.service.bus_log import BusLog
from hogsend.service.discovery import ServiceStats, discovery_router
from hogsend.service.injection import injector
from hogsend.service.middlewares import (
    CorrelationMiddleware,
    ErrorsMiddleware,
    MeasuringMiddleware,
    TracingMiddleware,
)
from hogsend.service.request_memory import RequestMemory
from hogsend.service.router import ServiceRouter
from hogsend.service.settings.shared import BusSettings
from hogsend.transport.connection import Connection, Observer
from hogsend.transport.publisher import Publisher
from hogsend.transport.tls import client_context


class ServiceBroker(LinkedBroker):
    """One NATS connection of one process: its handlers, what it asks, what it publishes."""

    def __init__(self, user: User, link: Connection) -> None:
        """Prepare without connecting.

        Args:
            user: the service's NATS user, which names its queue group.
            link: the connection everything goes over; it reconnects without end.
        """
        self.user = user
        self.instance = secrets.token_hex(11)
        self.stats = ServiceStats()
        self.answered: list[Endpoint[Any, Any]] = []
        self.requests: set[asyncio.Task[Any]] = set()
        """Requests under way, of all endpoints together."""
        self.request_memory = RequestMemory()
        """How much its requests in work may take, of all endpoints together."""
        metrics.RPC_REQUEST_BYTES.set_function(lambda: self.request_memory.reserved_bytes)
        self._provided: dict[type, object] = {}
        super().__init__(
            link,
            # structlog says what is worth saying; FastStream's log has a line for every message.
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

    @property
    def published(self) -> Publisher:
        """What publishes to JetStream on this broker's connection."""
        return self.link.publisher

    def provide(self, *instances: object) -> None:
        """Give instances to the handlers that ask for their type with `Injected`.

        An instance also stands for its base classes, and a later one for an earlier one, so that a
        test can provide a fake where the service has provided the real thing.
        """
        for instance in instances:
            self._provided.update((kind, instance) for kind in type(instance).__mro__[:-1])

    def include(
        self, router: ServiceRouter, *, activity: Callable[[], Activity] | None = None
    ) -> ServiceRouter:
        """Answer and consume what a router declares; gives this broker's copy of it.

        Its endpoints are listed by `nats micro` (NATS ADR-32), and what `activity` says as data of
        `nats micro stats`.
        """
        own = router.copy()
        self.include_router(own)
        self.answered += own.endpoints
        if own.endpoints or activity is not None:
            self.include_router(
                discovery_router(
                    self.user,
                    own.endpoints,
                    self.stats,
                    instance=self.instance,
                    activity=activity,
                )
            )
        return own

    async def ask(
        self,
        endpoint: Endpoint[Request, Reply],
        message: Request,
        *,
        deadline: float | None = None,
    ) -> Reply:
        """Ask another service; see `Connection.request`."""
        return await self.link.request(endpoint, message, deadline=deadline)


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

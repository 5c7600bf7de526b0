"""What operators do with destinations (contract 6.6)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import msgspec
import nats.errors
import nats.js.errors
import structlog

from hogsend.contract import subjects
from hogsend.contract.credentials import Deleted
from hogsend.contract.destinations import (
    ChangeDestination,
    CreateDestination,
    DeliveryPage,
    DestinationPage,
    DestinationRef,
    ListDeliveries,
    ListDestinations,
    OutboundDestination,
    TestQueued,
)
from hogsend.contract.engagement import Engagement
from hogsend.contract.errors import NotFound, Unavailable
from hogsend.contract.headers import DESTINATION, format_time, message_headers
from hogsend.contract.streams import StreamName
from hogsend.service.metrics import FAILURES
from hogsend.service.ssrf import EgressPolicy
from hogsend.transport.connection import Connection
from services.analytics.delivery.sources import consumer_of, durable_of
from services.analytics.destinations.model import (
    Destination,
    checked_config,
    checked_types,
    checked_url,
    read_config,
)
from services.analytics.destinations.store import DestinationStore

log = structlog.get_logger(__name__)

TEST = "webhook.test"

_AWAY = (nats.errors.Error, nats.js.errors.Error, TimeoutError, OSError)


class DestinationService:
    """Every method raises `Unavailable` while PostgreSQL or NATS is away, and most `NotFound`."""

    def __init__(self, bus: Connection, store: DestinationStore, outbound: EgressPolicy) -> None:
        """Work on the service's own bus connection and tables; `outbound` limits the hosts."""
        self._bus = bus
        self._store = store
        self._outbound = outbound

    async def create(self, new: CreateDestination) -> OutboundDestination:
        """Make a destination: from now on engagement waits for it.

        Raises:
            InvalidRequest: it could never work.
        """
        checked = msgspec.structs.replace(
            new,
            url=checked_url(new.url),
            event_types=checked_types(new.event_types),
            config=checked_config(new.config, {}, self._outbound),
        )
        made = await self._store.create(checked)
        try:
            await self._ensure_consumer(made.id)
        except Unavailable:
            # Whoever asks again must not get a second one.
            await self._store.delete(made.id)
            raise
        return made.shown()

    async def page(self, wanted: ListDestinations) -> DestinationPage:
        """List destinations."""
        return await self._store.page(wanted)

    async def get(self, wanted: DestinationRef) -> OutboundDestination:
        """Show a destination."""
        return (await self._store.get(_id(wanted.id))).shown()

    async def change(self, wanted: ChangeDestination) -> OutboundDestination:
        """Change what is given and leave the rest.

        Raises:
            InvalidRequest: it could not work any more.
        """
        changed = await self._store.change(
            _id(wanted.id), lambda stored: _edited(stored, wanted, self._outbound)
        )
        return changed.shown()

    async def delete(self, wanted: DestinationRef) -> Deleted:
        """Forget a destination, its history, and what waits for it."""
        id = _id(wanted.id)
        await self._store.delete(id)
        try:
            await self._bus.js.delete_consumer(StreamName.ENGAGEMENT, durable_of(id))
        except nats.js.errors.NotFoundError:
            log.debug("the destination had no consumer", destination=str(id))
        except _AWAY as error:
            # Whoever sends finds out that it is gone, and deletes the consumer.
            FAILURES.labels("delete_destination", type(error).__name__).inc()
            log.warning("consumer not deleted yet", destination=str(id))
        return Deleted()

    async def test(self, wanted: DestinationRef) -> TestQueued:
        """Send a test event to one destination only."""
        id = (await self._store.get(_id(wanted.id))).id
        await self._ensure_consumer(id)
        now = datetime.now(UTC)
        happened = Engagement(
            id=f"msg_{uuid4()}",
            type=TEST,
            timestamp=now,
            data={
                "message": "A test event from Hogsend.",
                "endpointId": str(id),
                "sentAt": format_time(now),
                "userId": f"test_{id}",
                "to": "test@example.com",
            },
        )
        headers = message_headers(id=happened.id, source="analytics", type="engagement", time=now)
        headers[DESTINATION] = str(id)
        await self._bus.publish(subjects.engagement(TEST), msgspec.json.encode(happened), headers)
        return TestQueued()

    async def deliveries(self, wanted: ListDeliveries) -> DeliveryPage:
        """List a destination's history."""
        return await self._store.deliveries(_id(wanted.id), wanted)

    async def _ensure_consumer(self, id: UUID) -> None:
        # Whoever sends makes it as well, a moment later; engagement until then would be lost on it.
        if not self._bus.connected:
            raise Unavailable("NATS is not connected")
        try:
            await self._bus.js.add_consumer(StreamName.ENGAGEMENT, consumer_of(id))
        except _AWAY as error:
            raise Unavailable(f"JetStream does not answer: {type(error).__name__}") from error


def _edited(stored: Destination, wanted: ChangeDestination, outbound: EgressPolicy) -> Destination:
    changes: dict[str, Any] = {}
    if wanted.url is not msgspec.UNSET:
        changes["url"] = checked_url(wanted.url)
    if wanted.event_types is not msgspec.UNSET:
        changes["event_types"] = checked_types(wanted.event_types)
    if wanted.description is not msgspec.UNSET:
        changes["description"] = wanted.description
    if wanted.disabled is not msgspec.UNSET:
        changes["disabled"] = wanted.disabled
    if wanted.config is not msgspec.UNSET:
        given = checked_config(wanted.config, stored.given, outbound)
        changes |= {"given": given, "config": read_config(given)}
    return msgspec.structs.replace(stored, **changes)


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise NotFound("Webhook endpoint not found") from error

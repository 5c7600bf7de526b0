"""The management of destinations by operators (contract 6.6)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import UUID, uuid4

import msgspec
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
from hogsend.service.metrics import FAILURES
from hogsend.service.ssrf import EgressPolicy
from services.analytics.destinations.model import (
    Destination,
    check_text,
    patched_config,
    read_config,
    validated_config,
    validated_types,
    validated_url,
)
from services.analytics.destinations.store import DestinationStore

log = structlog.get_logger(__name__)

TEST = "webhook.test"


class Publisher(Protocol):
    """Publishes messages durably."""

    async def publish(self, subject: str, body: bytes, headers: dict[str, str]) -> None:
        """Publish a message, which is stored when this returns.

        Raises:
            Unavailable: the broker cannot be reached.
        """


class Consumers(Protocol):
    """The durable consumers of destinations; the stream keeps engagement until each has read it."""

    async def create(self, destination: UUID) -> None:
        """Create the consumer of a destination: engagement from now on waits for it.

        Raises:
            Unavailable: the broker cannot be reached.
        """

    async def delete(self, destination: UUID) -> None:
        """Delete the consumer of a destination: engagement no longer waits for it.

        Raises:
            Unavailable: the broker cannot be reached.
        """


class DestinationService:
    """Manages destinations.

    Every method raises `Unavailable` when PostgreSQL or the broker cannot be reached. Methods with
    a destination's id raise `NotFound` when it does not exist.
    """

    def __init__(
        self,
        publisher: Publisher,
        consumers: Consumers,
        store: DestinationStore,
        egress: EgressPolicy,
        instance_host: str,
        *,
        max_destinations: int,
    ) -> None:
        """Manage the destinations in `store`.

        Args:
            publisher: publishes test events.
            consumers: the consumers of destinations.
            store: stores destinations.
            egress: which hosts may be called.
            instance_host: the host that the instance's own key is for.
            max_destinations: limit of destinations, including paused ones.
        """
        self._publisher = publisher
        self._consumers = consumers
        self._store = store
        self._egress = egress
        self._instance_host = instance_host
        self._max_destinations = max_destinations

    async def create(self, new: CreateDestination) -> OutboundDestination:
        """Create a destination, which gets the engagement that is reported from now on.

        Raises:
            InvalidRequest: a field is invalid, or there are too many destinations.
        """
        check_text("description", new.description)
        validated = msgspec.structs.replace(
            new,
            url=validated_url(new.url),
            event_types=validated_types(new.event_types),
            config=validated_config(new.config, self._egress, self._instance_host),
        )
        created = await self._store.create(validated, max_destinations=self._max_destinations)
        try:
            await self._create_consumer(created.id)
        except Unavailable:
            # The caller will retry, and must not get a second destination.
            await self._store.delete(created.id)
            raise
        return created.masked()

    async def page(self, request: ListDestinations) -> DestinationPage:
        """List destinations."""
        return await self._store.page(request)

    async def get(self, request: DestinationRef) -> OutboundDestination:
        """Return a destination."""
        return (await self._store.get(_id(request.id))).masked()

    async def change(self, request: ChangeDestination) -> OutboundDestination:
        """Change the given fields. The change is effective when this returns.

        Raises:
            InvalidRequest: a field is invalid.
        """
        changed = await self._store.change(
            _id(request.id),
            lambda stored: _apply_changes(stored, request, self._egress, self._instance_host),
        )
        return changed.masked()

    async def delete(self, request: DestinationRef) -> Deleted:
        """Delete a destination, its history, and the engagement that waits for it."""
        id = _id(request.id)
        await self._store.delete(id)
        try:
            await self._consumers.delete(id)
        except Unavailable as error:
            # The leader notices that the destination is deleted, and deletes its consumer.
            FAILURES.labels("delete_destination", error.code).inc()
            log.warning("consumer not deleted yet", destination=str(id), reason=str(error))
        return Deleted(deleted=True)

    async def test(self, request: DestinationRef) -> TestQueued:
        """Queue a test event for this destination only."""
        id = (await self._store.get(_id(request.id))).id
        await self._create_consumer(id)
        now = datetime.now(UTC)
        event = Engagement(
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
        headers = message_headers(id=event.id, source="analytics", type="engagement", time=now)
        headers[DESTINATION] = str(id)
        await self._publisher.publish(
            subjects.engagement(TEST), msgspec.json.encode(event), headers
        )
        return TestQueued(enqueued=True, event_type="webhook.test")

    async def deliveries(self, request: ListDeliveries) -> DeliveryPage:
        """List a destination's history."""
        return await self._store.deliveries(_id(request.id), request)

    async def ids(self) -> list[UUID]:
        """Return the ids of all destinations."""
        return [destination.id for destination in await self._store.all()]

    async def _create_consumer(self, id: UUID) -> None:
        # The leader would create the consumer too, but a moment later, and the destination would
        # miss the engagement until then.
        await self._consumers.create(id)


def _apply_changes(
    stored: Destination, request: ChangeDestination, egress: EgressPolicy, instance_host: str
) -> Destination:
    changes: dict[str, Any] = {}
    if request.url is not msgspec.UNSET:
        changes["url"] = validated_url(request.url)
    if request.event_types is not msgspec.UNSET:
        changes["event_types"] = validated_types(request.event_types)
    if request.description is not msgspec.UNSET:
        check_text("description", request.description)
        changes["description"] = request.description
    if request.disabled is not msgspec.UNSET:
        changes["disabled"] = request.disabled
    if request.config is not msgspec.UNSET:
        given = patched_config(request.config, stored.given, egress, instance_host)
        changes |= {"given": given, "config": read_config(given)}
    return msgspec.structs.replace(stored, **changes)


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise NotFound("Webhook endpoint not found") from error

"""Destinations as operators manage them (contract 6.6)."""

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
    changed_config,
    check_text,
    checked_config,
    checked_types,
    checked_url,
    read_config,
)
from services.analytics.destinations.store import DestinationStore

log = structlog.get_logger(__name__)

TEST = "webhook.test"


class Publisher(Protocol):
    """Publishes messages durably."""

    async def publish(self, subject: str, body: bytes, headers: dict[str, str]) -> None:
        """Publish a message; it is durable when this returns.

        Raises:
            Unavailable: the broker cannot be reached.
        """


class Consumers(Protocol):
    """Keep engagement for destinations until it is delivered."""

    async def create(self, destination: UUID) -> None:
        """Keep engagement for a destination from now on.

        Raises:
            Unavailable: the broker cannot be reached.
        """

    async def delete(self, destination: UUID) -> None:
        """Keep nothing for a destination any more.

        Raises:
            Unavailable: the broker cannot be reached.
        """


class DestinationService:
    """Manages destinations.

    Every method raises `Unavailable` when PostgreSQL or the broker cannot be reached; all that name
    a destination raise `NotFound` when there is none.
    """

    def __init__(
        self,
        publisher: Publisher,
        consumers: Consumers,
        store: DestinationStore,
        egress: EgressPolicy,
        instance_host: str,
        *,
        at_most: int,
    ) -> None:
        """Keep destinations in `store`.

        Args:
            publisher: publishes test events.
            consumers: keep engagement for destinations.
            store: keeps destinations.
            egress: which hosts may be called.
            instance_host: where the instance's own key belongs.
            at_most: how many destinations there may be, paused ones included.
        """
        self._publisher = publisher
        self._consumers = consumers
        self._store = store
        self._egress = egress
        self._instance_host = instance_host
        self._at_most = at_most

    async def create(self, new: CreateDestination) -> OutboundDestination:
        """Create a destination. Engagement reported from now on waits for it.

        Raises:
            InvalidRequest: the destination could never work, or there are too many.
        """
        check_text("description", new.description)
        checked = msgspec.structs.replace(
            new,
            url=checked_url(new.url),
            event_types=checked_types(new.event_types),
            config=checked_config(new.config, self._egress, self._instance_host),
        )
        created = await self._store.create(checked, at_most=self._at_most)
        try:
            await self._create_consumer(created.id)
        except Unavailable:
            # The caller will ask again, and must not get a second destination.
            await self._store.delete(created.id)
            raise
        return created.shown()

    async def page(self, wanted: ListDestinations) -> DestinationPage:
        """List destinations."""
        return await self._store.page(wanted)

    async def get(self, wanted: DestinationRef) -> OutboundDestination:
        """Show a destination."""
        return (await self._store.get(_id(wanted.id))).shown()

    async def change(self, wanted: ChangeDestination) -> OutboundDestination:
        """Change the fields that are given; in force from the moment that this returns.

        Raises:
            InvalidRequest: the destination could not work any more.
        """
        changed = await self._store.change(
            _id(wanted.id),
            lambda stored: _edited(stored, wanted, self._egress, self._instance_host),
        )
        return changed.shown()

    async def delete(self, wanted: DestinationRef) -> Deleted:
        """Delete a destination, its history, and the engagement that waits for it."""
        id = _id(wanted.id)
        await self._store.delete(id)
        try:
            await self._consumers.delete(id)
        except Unavailable as error:
            # The leader notices that the destination is gone, and deletes its consumer.
            FAILURES.labels("delete_destination", error.code).inc()
            log.warning("consumer not deleted yet", destination=str(id), reason=str(error))
        return Deleted()

    async def test(self, wanted: DestinationRef) -> TestQueued:
        """Queue a test event that only this destination gets."""
        id = (await self._store.get(_id(wanted.id))).id
        await self._create_consumer(id)
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
        await self._publisher.publish(
            subjects.engagement(TEST), msgspec.json.encode(happened), headers
        )
        return TestQueued()

    async def deliveries(self, wanted: ListDeliveries) -> DeliveryPage:
        """List a destination's history."""
        return await self._store.deliveries(_id(wanted.id), wanted)

    async def ids(self) -> list[UUID]:
        """Every destination's id."""
        return [one.id for one in await self._store.all()]

    async def _create_consumer(self, id: UUID) -> None:
        # The leader would create it a moment later; engagement until then would be lost.
        await self._consumers.create(id)


def _edited(
    stored: Destination, wanted: ChangeDestination, egress: EgressPolicy, instance_host: str
) -> Destination:
    changes: dict[str, Any] = {}
    if wanted.url is not msgspec.UNSET:
        changes["url"] = checked_url(wanted.url)
    if wanted.event_types is not msgspec.UNSET:
        changes["event_types"] = checked_types(wanted.event_types)
    if wanted.description is not msgspec.UNSET:
        check_text("description", wanted.description)
        changes["description"] = wanted.description
    if wanted.disabled is not msgspec.UNSET:
        changes["disabled"] = wanted.disabled
    if wanted.config is not msgspec.UNSET:
        given = changed_config(wanted.config, stored.given, egress, instance_host)
        changes |= {"given": given, "config": read_config(given)}
    return msgspec.structs.replace(stored, **changes)


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise NotFound("Webhook endpoint not found") from error

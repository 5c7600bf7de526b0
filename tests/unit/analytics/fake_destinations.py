"""Destinations and their history, in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import msgspec

from hogsend.contract.destinations import (
    CreateDestination,
    Delivered,
    DeliveryPage,
    DestinationPage,
    ListDeliveries,
    ListDestinations,
)
from hogsend.contract.errors import InvalidRequest, NotFound, Unavailable
from hogsend.service.database import Database
from hogsend.service.postgres_pool import COMMAND_SECONDS
from services.analytics.destinations.model import Destination, read_config
from services.analytics.destinations.store import DestinationStore, Edit, Outcome

AT = datetime(2026, 6, 13, 4, 0, tzinfo=UTC)


def destination(**changes: Any) -> Destination:
    """Return a destination. `given` is its config as the operator sent it."""
    given: dict[str, Any] = changes.pop("given", {})
    defaults: dict[str, Any] = {
        "id": uuid4(),
        "url": "posthog://capture",
        "kind": "posthog",
        "description": None,
        "event_types": ["email.opened"],
        "given": given,
        "config": read_config(given),
        "disabled": False,
        "is_default": False,
        "last_delivery_at": None,
        "created_at": AT,
        "updated_at": AT,
    }
    return Destination(**{**defaults, **changes})


class FakeStore(DestinationStore):
    """A store without PostgreSQL."""

    def __init__(self, *stored: Destination) -> None:
        super().__init__(Database("postgresql://nowhere", "analytics", Path(), pool_size=1))
        self.rows = {row.id: row for row in stored}
        self.history: dict[UUID, list[Outcome]] = {}
        self.down = False
        self.frozen = False
        """Whether reads hang until the command timeout of PostgreSQL."""
        self.reads = 0
        """Number of reads of all destinations."""

    async def all(self) -> list[Destination]:
        self.reads += 1
        if self.frozen:
            await asyncio.sleep(COMMAND_SECONDS)
            self.down = True
        self._check()
        return list(self.rows.values())

    async def page(self, query: ListDestinations) -> DestinationPage:
        self._check()
        shown = [
            row.masked() for row in self.rows.values() if query.include_disabled or not row.disabled
        ]
        part = shown[query.offset : query.offset + query.limit]
        return DestinationPage(
            webhooks=part, total=len(shown), limit=query.limit, offset=query.offset
        )

    async def get(self, id: UUID) -> Destination:
        self._check()
        if id not in self.rows:
            raise NotFound("Webhook endpoint not found")
        return self.rows[id]

    async def create(
        self,
        new: CreateDestination,
        *,
        is_default: bool = False,
        max_destinations: int | None = None,
    ) -> Destination:
        self._check()
        if max_destinations is not None and len(self.rows) >= max_destinations:
            raise InvalidRequest(f"there are {max_destinations} destinations")
        row = destination(
            url=new.url,
            event_types=new.event_types,
            description=new.description,
            disabled=new.disabled,
            given=new.config,
            is_default=is_default,
        )
        self.rows[row.id] = row
        return row

    async def change(self, id: UUID, edit: Edit) -> Destination:
        self.rows[id] = edit(await self.get(id))
        return self.rows[id]

    async def delete(self, id: UUID) -> None:
        await self.get(id)
        del self.rows[id]

    async def ensure_default(self, default: CreateDestination, complete: Edit) -> str:
        self._check()
        if not self.rows:
            await self.create(default, is_default=True)
            return "created"
        for id, stored in self.rows.items():
            if stored.is_default:
                self.rows[id] = complete(stored)
        return "changed"

    async def record(self, id: UUID, outcomes: Sequence[Outcome]) -> None:
        self._check()
        self.history.setdefault(id, []).extend(outcomes)

    async def deliveries(self, id: UUID, query: ListDeliveries) -> DeliveryPage:
        await self.get(id)
        deliveries = [
            Delivered(finished_at=AT, **msgspec.structs.asdict(outcome))
            for outcome in self.history.get(id, [])
            if query.status in {None, outcome.status}
        ]
        return DeliveryPage(
            deliveries=deliveries, total=len(deliveries), limit=query.limit, offset=query.offset
        )

    def _check(self) -> None:
        if self.down:
            raise Unavailable("PostgreSQL is not available")

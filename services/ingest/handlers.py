"""What the ingest service does: takes webhooks in, lists events, reports its health."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from nats.aio.msg import Msg

from hogsend.bus import Bus
from hogsend.channels import INGEST_EVENTS, INGEST_HEALTH
from hogsend.database import Database
from hogsend.errors import InvalidRequest
from hogsend.messages import Empty, EventPage, ListEvents, ServiceHealth
from hogsend.serving import AnyHandler, Handler, service_health
from services.ingest.dead_letters import DeadLetters
from services.ingest.intake import Intake
from services.ingest.publisher import Publisher
from services.ingest.store import EventStore

_FRAMING_BYTES = 1024


class Handlers:
    """One short method per subject."""

    def __init__(self, bus: Bus, database: Database) -> None:
        """Work on the service's own bus connection and database."""
        publisher = Publisher(bus)
        self._bus = bus
        self._database = database
        self._store = EventStore(database)
        self._intake = Intake(self._store, publisher, DeadLetters(publisher))

    def all(self) -> list[AnyHandler]:
        """Pair every request subject with its method."""
        return [Handler(INGEST_EVENTS, self.events), Handler(INGEST_HEALTH, self.health)]

    async def deliveries(self, messages: Sequence[Msg]) -> None:
        """Take a batch of webhooks in."""
        await self._intake.take(messages)

    async def events(self, wanted: ListEvents) -> EventPage:
        """List stored events."""
        page = await self._store.page(wanted)
        if len(msgspec.json.encode(page)) + _FRAMING_BYTES > self._bus.max_payload:
            raise InvalidRequest("these events do not fit into one answer; ask for fewer at a time")
        return page

    async def health(self, _request: Empty) -> ServiceHealth:
        """Report this replica's health."""
        return await service_health("ingest", self._database)

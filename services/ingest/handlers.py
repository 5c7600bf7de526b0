"""What the ingest service does: takes webhooks in, lists events, keeps dead letters."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from nats.aio.msg import Msg

from hogsend.bus import Bus
from hogsend.channels import (
    INGEST_DEAD_LETTERS,
    INGEST_EVENTS,
    INGEST_HEALTH,
    INGEST_PURGE,
    INGEST_REPLAY,
)
from hogsend.database import Database
from hogsend.errors import InvalidRequest
from hogsend.messages import (
    DeadLetterPage,
    DeadLettersDone,
    Empty,
    EventPage,
    ListDeadLetters,
    ListEvents,
    PurgeDeadLetters,
    ReplayDeadLetters,
    ServiceHealth,
)
from hogsend.serving import AnyHandler, Handler, service_health
from services.ingest.dead_letter_box import DeadLetterBox
from services.ingest.dead_letters import DeadLetters
from services.ingest.intake import Intake
from services.ingest.letter_stream import LetterStream
from services.ingest.publisher import Publisher
from services.ingest.replaying import Replayer
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
        letters = LetterStream(bus)
        self._box = DeadLetterBox(bus, letters)
        self._replayer = Replayer(bus, letters, self._box)

    def all(self) -> list[AnyHandler]:
        """Pair every request subject with its method."""
        return [
            Handler(INGEST_EVENTS, self.events),
            Handler(INGEST_DEAD_LETTERS, self.dead_letters),
            Handler(INGEST_REPLAY, self.replay),
            Handler(INGEST_PURGE, self.purge),
            Handler(INGEST_HEALTH, self.health),
        ]

    async def deliveries(self, messages: Sequence[Msg]) -> None:
        """Take a batch of webhooks in."""
        await self._intake.take(messages)

    async def events(self, wanted: ListEvents) -> EventPage:
        """List stored events."""
        page = await self._store.page(wanted)
        if len(msgspec.json.encode(page)) + _FRAMING_BYTES > self._bus.max_payload:
            raise InvalidRequest("these events do not fit into one answer; ask for fewer at a time")
        return page

    async def dead_letters(self, wanted: ListDeadLetters) -> DeadLetterPage:
        """List dead letters."""
        return await self._box.page(wanted)

    async def replay(self, wanted: ReplayDeadLetters) -> DeadLettersDone:
        """Put dead letters back on their streams."""
        return await self._replayer.replay(wanted)

    async def purge(self, wanted: PurgeDeadLetters) -> DeadLettersDone:
        """Forget dead letters."""
        return await self._box.purge(wanted)

    async def health(self, _request: Empty) -> ServiceHealth:
        """Report this replica's health."""
        return await service_health("ingest", self._database)

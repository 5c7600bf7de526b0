"""What the analytics service answers about people, flags, destinations and itself."""

from __future__ import annotations

from hogsend.contract.base import Empty
from hogsend.contract.capabilities import ANALYTICS_CAPABILITIES, Capabilities
from hogsend.contract.conditions import ANALYTICS_CONDITIONS, ConditionResults, EvaluateConditions
from hogsend.contract.destinations import (
    ANALYTICS_CHANGE_DESTINATION,
    ANALYTICS_CREATE_DESTINATION,
    ANALYTICS_DELETE_DESTINATION,
    ANALYTICS_DELIVERIES,
    ANALYTICS_GET_DESTINATION,
    ANALYTICS_LIST_DESTINATIONS,
    ANALYTICS_TEST_DESTINATION,
)
from hogsend.contract.flags import ANALYTICS_FLAGS, Flags, GetFlags
from hogsend.contract.health import ANALYTICS_HEALTH, ServiceHealth
from hogsend.contract.persons import (
    ANALYTICS_PERSON,
    ANALYTICS_TIMEZONE,
    GetPerson,
    GetTimezone,
    Person,
    Timezone,
)
from hogsend.service.database import Database
from hogsend.service.serving import AnyHandler, Handler, service_health
from hogsend.service.token_cache import TokenCache
from services.analytics.capabilities import CapabilityReport
from services.analytics.conditions.evaluation import Conditions
from services.analytics.destinations.service import DestinationService
from services.analytics.flags.reader import FlagReader
from services.analytics.persons.reader import PersonReader
from services.analytics.persons.timezones import Timezones


class Handlers:
    """One short method per subject."""

    def __init__(
        self,
        *,
        persons: PersonReader,
        timezones: Timezones,
        conditions: Conditions,
        flags: FlagReader,
        destinations: DestinationService,
        report: CapabilityReport,
        tokens: TokenCache,
        database: Database,
    ) -> None:
        self._persons = persons
        self._timezones = timezones
        self._conditions = conditions
        self._flags = flags
        self._destinations = destinations
        self._tokens = tokens
        self._report = report
        self._database = database

    def all(self) -> list[AnyHandler]:
        """Pair every subject with its method."""
        return [
            Handler(ANALYTICS_PERSON, self.person),
            Handler(ANALYTICS_TIMEZONE, self.timezone),
            Handler(ANALYTICS_CONDITIONS, self.conditions),
            Handler(ANALYTICS_FLAGS, self.flags),
            Handler(ANALYTICS_CREATE_DESTINATION, self._destinations.create),
            Handler(ANALYTICS_LIST_DESTINATIONS, self._destinations.page),
            Handler(ANALYTICS_GET_DESTINATION, self._destinations.get),
            Handler(ANALYTICS_CHANGE_DESTINATION, self._destinations.change),
            Handler(ANALYTICS_DELETE_DESTINATION, self._destinations.delete),
            Handler(ANALYTICS_TEST_DESTINATION, self._destinations.test),
            Handler(ANALYTICS_DELIVERIES, self._destinations.deliveries),
            Handler(ANALYTICS_CAPABILITIES, self.capabilities),
            Handler(ANALYTICS_HEALTH, self.health),
        ]

    async def person(self, wanted: GetPerson) -> Person:
        """Give a person's properties."""
        return Person(await self._persons.properties(wanted.distinct_id))

    async def timezone(self, wanted: GetTimezone) -> Timezone:
        """Say where somebody lives."""
        return await self._timezones.find(wanted)

    async def conditions(self, wanted: EvaluateConditions) -> ConditionResults:
        """Say for whom conditions hold."""
        return ConditionResults(await self._conditions.evaluate(wanted.queries))

    async def flags(self, wanted: GetFlags) -> Flags:
        """Evaluate flags."""
        return await self._flags.evaluate(wanted)

    async def capabilities(self, _request: Empty) -> Capabilities:
        """Say what works and why the rest does not."""
        return await self._report.capabilities()

    async def health(self, _request: Empty) -> ServiceHealth:
        """Report this replica's health."""
        return await service_health("analytics", self._database, self._tokens.version)

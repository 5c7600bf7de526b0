"""Everything that is read about a person, put together."""

from __future__ import annotations

from dataclasses import dataclass

import httpx

from hogsend.service.credential_watcher import TokenCache
from hogsend.service.settings import PostHogSettings
from hogsend.transport.connection import Bus
from services.analytics.conditions.evaluation import Conditions
from services.analytics.flags.reader import FlagReader
from services.analytics.persons.contacts import Contacts
from services.analytics.persons.private_host import PrivateHost
from services.analytics.persons.reader import PersonReader
from services.analytics.persons.timezones import Timezones
from services.analytics.project_key import ProjectKey
from services.analytics.settings import AnalyticsSettings


@dataclass(frozen=True)
class Reads:
    """One reader for each question."""

    bus: Bus
    host: PrivateHost
    persons: PersonReader
    timezones: Timezones
    conditions: Conditions
    flags: FlagReader

    @classmethod
    def of(
        cls,
        bus: Bus,
        http: httpx.AsyncClient,
        tokens: TokenCache,
        project_key: ProjectKey,
        *,
        posthog: PostHogSettings,
        settings: AnalyticsSettings,
    ) -> Reads:
        """Build them; call `follow` once `bus` is connected."""
        host, contacts = PrivateHost(bus, posthog), Contacts(bus)
        persons = PersonReader(tokens, host, http, posthog.posthog_project_id)
        return cls(
            bus=bus,
            host=host,
            persons=persons,
            timezones=Timezones(persons, contacts, settings.default_timezone),
            conditions=Conditions(persons, contacts),
            flags=FlagReader(bus, project_key, http),
        )

    async def follow(self) -> None:
        """Hear of every credential change from now on."""
        await self.host.follow()
        await self.persons.follow(self.bus)

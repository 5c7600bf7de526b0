"""What the analytics service answers about people, flags and itself."""

from __future__ import annotations

from hogsend.channels import ANALYTICS_CAPABILITIES, ANALYTICS_HEALTH
from hogsend.database import Database
from hogsend.messages import Capabilities, Empty, ServiceHealth
from hogsend.serving import AnyHandler, Handler, service_health
from hogsend.token_cache import TokenCache
from services.analytics.capabilities import CapabilityReport


class Handlers:
    """One short method per subject."""

    def __init__(self, tokens: TokenCache, report: CapabilityReport, database: Database) -> None:
        """Work with what the service has."""
        self._tokens = tokens
        self._report = report
        self._database = database

    def all(self) -> list[AnyHandler]:
        """Pair every subject with its method."""
        return [
            Handler(ANALYTICS_CAPABILITIES, self.capabilities),
            Handler(ANALYTICS_HEALTH, self.health),
        ]

    async def capabilities(self, _request: Empty) -> Capabilities:
        """Say what works and why the rest does not."""
        return await self._report.capabilities()

    async def health(self, _request: Empty) -> ServiceHealth:
        """Report this replica's health."""
        return await service_health("analytics", self._database, self._tokens.version)

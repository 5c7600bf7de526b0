"""What the analytics service answers about people, flags and itself."""

from __future__ import annotations

from hogsend.channels import ANALYTICS_HEALTH
from hogsend.database import Database
from hogsend.messages import Empty, ServiceHealth
from hogsend.serving import AnyHandler, Handler, service_health
from hogsend.token_cache import TokenCache


class Handlers:
    """One short method per subject."""

    def __init__(self, tokens: TokenCache, database: Database) -> None:
        """Work with what the service has."""
        self._tokens = tokens
        self._database = database

    def all(self) -> list[AnyHandler]:
        """Pair every subject with its method."""
        return [Handler(ANALYTICS_HEALTH, self.health)]

    async def health(self, _request: Empty) -> ServiceHealth:
        """Report this replica's health."""
        return await service_health("analytics", self._database, self._tokens.version)

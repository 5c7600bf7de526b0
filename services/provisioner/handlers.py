"""Requests the provisioner answers on the bus."""

from __future__ import annotations

from hogsend.contract.base import Empty
from hogsend.contract.health import PROVISIONER_HEALTH, ServiceHealth
from hogsend.contract.provisioning import (
    PROVISIONER_DIAGNOSE,
    PROVISIONER_PROVISION,
    Diagnosis,
    ProvisionLoop,
    ProvisionReply,
)
from hogsend.service.database import Database
from hogsend.service.serving import AnyHandler, Handler, service_health
from services.provisioner.credentials import Credentials
from services.provisioner.destination.provisioning import Provisioning
from services.provisioner.diagnosis.diagnostics import Diagnostics


class Handlers:
    """One short method per subject."""

    def __init__(
        self,
        provisioning: Provisioning,
        diagnostics: Diagnostics,
        credentials: Credentials,
        database: Database,
    ) -> None:
        self._credentials = credentials
        self._provisioning = provisioning
        self._diagnostics = diagnostics
        self._database = database

    def all(self) -> list[AnyHandler]:
        """Pair every subject with its method."""
        return [
            Handler(PROVISIONER_PROVISION, self.provision),
            Handler(PROVISIONER_DIAGNOSE, self.diagnose),
            Handler(PROVISIONER_HEALTH, self.health),
        ]

    async def provision(self, request: ProvisionLoop) -> ProvisionReply:
        """Make PostHog deliver to this instance."""
        return await self._provisioning.run(placeholder=request.placeholder)

    async def diagnose(self, _request: Empty) -> Diagnosis:
        """Diagnose the integration."""
        return await self._diagnostics.run()

    async def health(self, _request: Empty) -> ServiceHealth:
        """Report this replica's health."""
        return await service_health("provisioner", self._database, self._credentials.version)

    async def follow(self) -> None:
        """Subscribe to credential changes."""
        await self._credentials.follow()

"""What the provisioner asks the credentials service, in the provisioner's words."""

from __future__ import annotations

import structlog

from hogsend.bus import Bus
from hogsend.channels import (
    CREDENTIALS_GET_DERIVED,
    CREDENTIALS_PUT_DERIVED,
    CREDENTIALS_STATUS,
    CREDENTIALS_TOKEN,
)
from hogsend.envelope import CORRELATION_ID
from hogsend.messages import (
    CredentialStatus,
    DerivedPayload,
    DerivedReply,
    ProviderRef,
    PutDerived,
    TokenReply,
    TokenRequest,
)

PROVIDER = "posthog"


class Credentials:
    """PostHog's credential. Every method raises `Unavailable` while the service is away."""

    def __init__(self, bus: Bus) -> None:
        """Ask over `bus`."""
        self._bus = bus

    async def bearer(
        self, *, rejected_version: int | None = None, deadline: float | None = None
    ) -> TokenReply:
        """Resolve a bearer; a token as old as `rejected_version` is refreshed first."""
        request = TokenRequest(provider_id=PROVIDER, rejected_version=rejected_version)
        return await self._bus.request(
            CREDENTIALS_TOKEN, request, deadline=deadline, headers=_correlation()
        )

    async def derived(self) -> DerivedReply:
        """Read the minted secret and the project it belongs to."""
        return await self._bus.request(
            CREDENTIALS_GET_DERIVED, ProviderRef(provider_id=PROVIDER), headers=_correlation()
        )

    async def store_derived(self, payload: DerivedPayload) -> None:
        """Replace the minted secret and the project it belongs to, as a whole."""
        request = PutDerived(provider_id=PROVIDER, payload=payload)
        await self._bus.request(CREDENTIALS_PUT_DERIVED, request, headers=_correlation())

    async def status(self) -> CredentialStatus:
        """Say what is stored and whether it works."""
        return await self._bus.request(
            CREDENTIALS_STATUS, ProviderRef(provider_id=PROVIDER), headers=_correlation()
        )


def _correlation() -> dict[str, str] | None:
    bound = structlog.contextvars.get_contextvars().get("correlation_id")
    return {CORRELATION_ID: bound} if bound else None

"""The provisioner's client of the credentials service."""

from __future__ import annotations

import asyncio

import structlog

from hogsend.contract.credentials import (
    CREDENTIALS_GET_DERIVED,
    CREDENTIALS_PUT_DERIVED,
    CREDENTIALS_STATUS,
    CREDENTIALS_TOKEN,
    CredentialStatus,
    DerivedPayload,
    DerivedReply,
    ProviderRef,
    PutDerived,
    TokenReply,
    TokenRequest,
)
from hogsend.contract.errors import Unavailable
from hogsend.contract.headers import CORRELATION_ID
from hogsend.service.token_cache import TokenCache, token_digest
from hogsend.transport.connection import Connection

PROVIDER = "posthog"


class Credentials:
    """PostHog's credential. Every method raises `Unavailable` while the service is down.

    Call `follow` once the bus is connected.
    """

    def __init__(self, bus: Connection) -> None:
        self._bus = bus
        self._cache = TokenCache(bus, PROVIDER)

    async def follow(self) -> None:
        """Subscribe to credential changes."""
        await self._cache.subscribe()

    @property
    def version(self) -> int | None:
        """Version of the credential that is held; None when none is."""
        return self._cache.version

    async def bearer(self, *, rejected: str | None = None) -> TokenReply:
        """Request a bearer; `rejected` is a token PostHog just refused, which is refreshed."""
        request = TokenRequest(
            provider_id=PROVIDER,
            rejected_sha256=token_digest(rejected) if rejected is not None else None,
        )
        return await self._bus.request(CREDENTIALS_TOKEN, request, headers=_correlation())

    async def held_bearer(self, deadline: float) -> TokenReply:
        """Return the cached bearer, or request one within `deadline` seconds.

        Raises:
            Unavailable: the service is down or did not answer in time.
        """
        try:
            async with asyncio.timeout(deadline):
                return await self._cache.token()
        except TimeoutError as error:
            raise Unavailable("the credentials service did not answer in time") from error

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
        """Read what is stored and whether it works."""
        return await self._bus.request(
            CREDENTIALS_STATUS, ProviderRef(provider_id=PROVIDER), headers=_correlation()
        )


def _correlation() -> dict[str, str] | None:
    bound = structlog.contextvars.get_contextvars().get("correlation_id")
    return {CORRELATION_ID: bound} if bound else None

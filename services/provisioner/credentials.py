"""The provisioner's client of the credentials service."""

from __future__ import annotations

import asyncio

from hogsend.contract.credentials import (
    CREDENTIALS_GET_DERIVED,
    CREDENTIALS_PUT_DERIVED,
    CREDENTIALS_STATUS,
    CREDENTIALS_TOKEN,
    POSTHOG,
    CredentialStatus,
    DerivedPayload,
    DerivedReply,
    ProviderRef,
    PutDerived,
    TokenReply,
    TokenRequest,
    token_digest,
)
from hogsend.contract.errors import GrantReplaced, Unavailable
from hogsend.service.bearer_cache import BearerCache
from hogsend.service.credential_watcher import CredentialWatcher
from hogsend.transport.connection import Connection

_REF = ProviderRef(provider_id=POSTHOG)


class Credentials:
    """Reads and stores PostHog's credential.

    Every method raises `Unavailable` while the credentials service is down.
    """

    def __init__(self, link: Connection, watcher: CredentialWatcher) -> None:
        self._link = link
        self._cache = BearerCache(link, watcher)

    @property
    def version(self) -> int | None:
        """Version of the cached credential; None when none is cached."""
        return self._cache.version

    async def bearer(self) -> TokenReply:
        """Request the bearer without using the cache."""
        return await self._link.request(CREDENTIALS_TOKEN, TokenRequest(provider_id=POSTHOG))

    async def replace_bearer(self, rejected: str) -> TokenReply:
        """Request a bearer in place of a token that PostHog has just rejected."""
        return await self._cache.replace_rejected(token_digest(rejected))

    async def cached_bearer(self, seconds: float) -> TokenReply:
        """Return the cached bearer, or request one within `seconds`.

        Raises:
            Unavailable: the service is down or did not reply in time.
        """
        try:
            async with asyncio.timeout(seconds):
                return await self._cache.token()
        except TimeoutError as error:
            raise Unavailable("the credentials service did not answer in time") from error

    async def derived(self) -> DerivedReply:
        """Read the generated secrets, and the project they belong to."""
        return await self._link.request(CREDENTIALS_GET_DERIVED, _REF)

    async def store_derived(self, payload: DerivedPayload, generation: int | None = None) -> None:
        """Replace the generated secrets and the project they belong to, as a whole.

        Raises:
            GrantReplaced: the stored grant is not of this generation any more.
        """
        request = PutDerived(provider_id=POSTHOG, payload=payload, generation=generation)
        await self._link.request(CREDENTIALS_PUT_DERIVED, request)

    async def status(self) -> CredentialStatus:
        """Read what is stored, and whether refreshing works."""
        return await self._link.request(CREDENTIALS_STATUS, _REF)


class PinnedGrant:
    """The credential, pinned to the grant that a run started with.

    While a run is in progress, an operator may connect another project or delete the credential.
    Without this check, the run would then store the old project again, or create a destination
    there that this instance does not know.
    """

    def __init__(self, credentials: Credentials, bearer: TokenReply) -> None:
        """Pin the grant that `bearer` is from."""
        self._credentials = credentials
        self._generation = bearer.generation

    async def derived(self) -> DerivedReply:
        """Read the generated secrets, and the project they belong to."""
        return await self._credentials.derived()

    async def store_derived(self, payload: DerivedPayload) -> None:
        """Replace the generated secrets and the project they belong to, as a whole.

        Raises:
            GrantReplaced: the grant was replaced or deleted; nothing was stored.
        """
        await self._credentials.store_derived(payload, self._generation)

    async def confirm(self) -> None:
        """Check that the grant is still stored; call this before each change in PostHog.

        Raises:
            GrantReplaced: the grant was replaced or deleted.
        """
        if self._generation is None:
            return
        if (await self._credentials.status()).generation != self._generation:
            raise GrantReplaced("another grant was connected meanwhile, or this one deleted")

"""What the credentials service answers on the bus. A change is announced before it is answered."""

from __future__ import annotations

from hogsend.contract.base import Empty
from hogsend.contract.credentials import (
    CREDENTIALS_DELETE,
    CREDENTIALS_GET,
    CREDENTIALS_GET_DERIVED,
    CREDENTIALS_PROJECT,
    CREDENTIALS_PUT,
    CREDENTIALS_PUT_DERIVED,
    CREDENTIALS_STATUS,
    CREDENTIALS_TOKEN,
    CREDENTIALS_WEBHOOK_SECRET,
    CredentialMeta,
    CredentialStatus,
    Deleted,
    DerivedReply,
    ProjectReply,
    ProviderRef,
    PutCredential,
    PutDerived,
    TokenReply,
    TokenRequest,
    WebhookSecretReply,
)
from hogsend.contract.health import CREDENTIALS_HEALTH, ServiceHealth
from hogsend.service.database import Database
from hogsend.service.serving import AnyHandler, Handler, service_health
from services.credentials.change_relay import ChangeRelay
from services.credentials.credential_service import CredentialService
from services.credentials.token_resolver import TokenResolver


class Handlers:
    """One short method per subject."""

    def __init__(
        self,
        credentials: CredentialService,
        tokens: TokenResolver,
        relay: ChangeRelay,
        database: Database,
    ) -> None:
        """Answer from `credentials` and `tokens`; publish changes with `relay`."""
        self._credentials = credentials
        self._tokens = tokens
        self._relay = relay
        self._database = database

    def all(self) -> list[AnyHandler]:
        """Pair every subject with its method."""
        return [
            Handler(CREDENTIALS_PUT, self.put),
            Handler(CREDENTIALS_GET, self.get),
            Handler(CREDENTIALS_DELETE, self.delete),
            Handler(CREDENTIALS_STATUS, self.status),
            Handler(CREDENTIALS_GET_DERIVED, self.get_derived),
            Handler(CREDENTIALS_PROJECT, self.project),
            Handler(CREDENTIALS_PUT_DERIVED, self.put_derived),
            Handler(CREDENTIALS_TOKEN, self.token),
            Handler(CREDENTIALS_WEBHOOK_SECRET, self.webhook_secret),
            Handler(CREDENTIALS_HEALTH, self.health),
        ]

    async def put(self, request: PutCredential) -> CredentialMeta:
        """Store an OAuth grant."""
        meta = await self._credentials.put_oauth(request.provider_id, request.payload)
        await self._relay.relay(request.provider_id)
        return meta

    async def get_derived(self, request: ProviderRef) -> DerivedReply:
        """Give the minted secret and its project."""
        return await self._credentials.derived(request.provider_id)

    async def project(self, request: ProviderRef) -> ProjectReply:
        """Give the stored project and its key, without the minted secret."""
        derived = await self._credentials.derived(request.provider_id)
        payload = derived.payload
        return ProjectReply(
            version=derived.version,
            state=derived.state,
            project_api_key=payload.project_api_key if payload else None,
            project_id=payload.project_id if payload else None,
            private_host=payload.private_host if payload else None,
            grant_origin=await self._credentials.grant_origin(request.provider_id),
        )

    async def put_derived(self, request: PutDerived) -> CredentialStatus:
        """Store a minted secret and its project."""
        status = await self._credentials.put_derived(request.provider_id, request.payload)
        await self._relay.relay(request.provider_id)
        return status

    async def delete(self, request: ProviderRef) -> Deleted:
        """Remove a provider's rows."""
        await self._credentials.delete(request.provider_id)
        await self._relay.relay(request.provider_id)
        return Deleted()

    async def get(self, request: ProviderRef) -> CredentialMeta:
        """Describe the stored grant."""
        return await self._credentials.meta(request.provider_id)

    async def status(self, request: ProviderRef) -> CredentialStatus:
        """Say what is stored."""
        return await self._credentials.status(request.provider_id)

    async def webhook_secret(self, request: ProviderRef) -> WebhookSecretReply:
        """Give the digest of the minted secret."""
        return await self._credentials.webhook_secret(request.provider_id)

    async def token(self, request: TokenRequest) -> TokenReply:
        """Resolve a bearer."""
        return await self._tokens.resolve(request)

    async def health(self, _request: Empty) -> ServiceHealth:
        """Report this replica's health."""
        return await service_health("credentials", self._database)

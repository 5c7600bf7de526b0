"""Endpoints and publications of the credentials service."""

from __future__ import annotations

from hogsend.contract.audit import ADMIN_REQUEST_AUDITED
from hogsend.contract.authorizations import (
    CREDENTIALS_AUTHORIZE,
    CREDENTIALS_FINISH_AUTHORIZATION,
    AuthorizationBegun,
    AuthorizationFinished,
    BeginAuthorization,
    FinishAuthorization,
)
from hogsend.contract.base import Empty
from hogsend.contract.credentials import (
    CREDENTIAL_CHANGED,
    CREDENTIALS_DELETE,
    CREDENTIALS_GET,
    CREDENTIALS_GET_DERIVED,
    CREDENTIALS_PROJECT,
    CREDENTIALS_PUT,
    CREDENTIALS_PUT_DERIVED,
    CREDENTIALS_SIGNING_SECRET,
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
    SigningSecretReply,
    TokenReply,
    TokenRequest,
    WebhookSecretReply,
)
from hogsend.contract.health import CREDENTIALS_HEALTH, ServiceHealth
from hogsend.service.health import HealthReporter
from hogsend.service.injection import Injected
from hogsend.service.router import ServiceRouter
from services.credentials.authorization.authorizations import Authorizations
from services.credentials.credential_service import CredentialService
from services.credentials.token_resolver import TokenResolver

router = ServiceRouter()
router.publishes(CREDENTIAL_CHANGED, ADMIN_REQUEST_AUDITED)


@router.endpoint(CREDENTIALS_PUT)
async def put(request: PutCredential, credentials: Injected[CredentialService]) -> CredentialMeta:
    """Store an OAuth grant."""
    return await credentials.put_oauth(request.provider_id, request.payload)


@router.endpoint(CREDENTIALS_GET)
async def get(request: ProviderRef, credentials: Injected[CredentialService]) -> CredentialMeta:
    """Describe the stored grant."""
    return await credentials.meta(request.provider_id)


@router.endpoint(CREDENTIALS_DELETE)
async def delete(request: ProviderRef, credentials: Injected[CredentialService]) -> Deleted:
    """Delete the grant and everything derived from it."""
    await credentials.delete(request.provider_id)
    return Deleted(deleted=True)


@router.endpoint(CREDENTIALS_STATUS)
async def status(
    request: ProviderRef, credentials: Injected[CredentialService]
) -> CredentialStatus:
    """Report what is stored, and whether refreshing works."""
    return await credentials.status(request.provider_id)


@router.endpoint(CREDENTIALS_GET_DERIVED)
async def get_derived(
    request: ProviderRef, credentials: Injected[CredentialService]
) -> DerivedReply:
    """Return the derived payload unsealed."""
    return await credentials.derived(request.provider_id)


@router.endpoint(CREDENTIALS_PROJECT)
async def project(request: ProviderRef, credentials: Injected[CredentialService]) -> ProjectReply:
    """Return the connected project and its key."""
    return await credentials.project(request.provider_id)


@router.endpoint(CREDENTIALS_PUT_DERIVED)
async def put_derived(
    request: PutDerived, credentials: Injected[CredentialService]
) -> CredentialStatus:
    """Store the derived payload as a whole."""
    return await credentials.put_derived(request.provider_id, request.payload, request.generation)


@router.endpoint(CREDENTIALS_TOKEN)
async def token(request: TokenRequest, tokens: Injected[TokenResolver]) -> TokenReply:
    """Resolve a bearer, refreshing the grant when that is due."""
    return await tokens.resolve(request)


@router.endpoint(CREDENTIALS_WEBHOOK_SECRET)
async def webhook_secret(
    request: ProviderRef, credentials: Injected[CredentialService]
) -> WebhookSecretReply:
    """Return the digest of the generated webhook secret."""
    return await credentials.webhook_secret(request.provider_id)


@router.endpoint(CREDENTIALS_SIGNING_SECRET)
async def signing_secret(
    request: ProviderRef, credentials: Injected[CredentialService]
) -> SigningSecretReply:
    """Return the generated keys that deliveries may be signed with."""
    return await credentials.signing_secret(request.provider_id)


@router.endpoint(CREDENTIALS_AUTHORIZE)
async def authorize(
    request: BeginAuthorization, authorizations: Injected[Authorizations]
) -> AuthorizationBegun:
    """Prepare the consent page for a browser."""
    return await authorizations.begin(request)


@router.endpoint(CREDENTIALS_FINISH_AUTHORIZATION)
async def finish_authorization(
    request: FinishAuthorization, authorizations: Injected[Authorizations]
) -> AuthorizationFinished:
    """Exchange the authorization code that the browser returned with."""
    return await authorizations.finish(request)


@router.endpoint(CREDENTIALS_HEALTH)
async def health(_request: Empty, reporter: Injected[HealthReporter]) -> ServiceHealth:
    """Report this replica's health."""
    return await reporter.report()

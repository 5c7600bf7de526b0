"""`/v1/admin/provider-credentials/{provider}`: stores, describes and deletes a credential.

See contract 1.3 and 1.4.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from litestar import Controller, Request, delete, get, put
from litestar.di import NamedDependency
from litestar.exceptions import ClientException
from litestar.params import JSONBody, PathParameter

from hogsend.contract.credentials import (
    CREDENTIALS_DELETE,
    CREDENTIALS_GET,
    CREDENTIALS_PUT,
    CredentialMeta,
    Deleted,
    NonEmpty,
    OAuthPayload,
    ProviderRef,
    PutCredential,
)
from hogsend.contract.errors import InvalidRequest
from hogsend.transport.connection import Connection
from hogsend.urls import is_absolute_url
from services.gateway.auth import ADMIN_SECURITY, admin_only
from services.gateway.error_responses import admin_errors
from services.gateway.timestamps import Timestamp, format_milliseconds, parse_timestamp

Provider = Annotated[
    str,
    PathParameter(
        min_length=1,
        max_length=100,
        pattern=r"^[^\x00-\x1f\x7f]+$(?!\n)",
        description="The provider, for example `posthog`.",
    ),
]


class OAuthGrant(msgspec.Struct, frozen=True, rename="camel"):
    """An OAuth grant in the form that the CLI sends."""

    access_token: NonEmpty
    """Stored encrypted, and never returned over HTTP."""
    refresh_token: NonEmpty
    """Stored encrypted, and never returned over HTTP."""
    expires_at: Timestamp
    """When the access token expires. ISO 8601 date and time with `Z` or an offset, upper case."""
    token_endpoint: NonEmpty
    """Absolute URL where the grant is refreshed."""
    client_id: NonEmpty
    """The OAuth client, as the absolute URL of its metadata document."""
    scopes: list[str] = []
    """Granted OAuth scopes, for example `person:read`."""
    scoped_teams: list[int] = []
    """Ids of the PostHog projects that the grant is limited to; empty if it is not limited."""
    scoped_organizations: list[str] = []
    """Ids of the PostHog organizations that the grant is limited to; empty if it is not limited."""

    def __repr__(self) -> str:
        """Hide the tokens."""
        return f"OAuthGrant(scopes={self.scopes!r})"


class StoreCredential(msgspec.Struct, frozen=True):
    """A credential to store."""

    payload: OAuthGrant
    kind: Literal["oauth"] | msgspec.UnsetType = msgspec.UNSET
    """`oauth` is the default, and the only kind."""


class StoredCredential(msgspec.Struct, frozen=True, rename="camel"):
    """A stored credential without its secrets. Times are in UTC with milliseconds."""

    provider_id: str
    """The provider, for example `posthog`."""
    kind: Literal["oauth"]
    scopes: list[str]
    """Granted OAuth scopes, for example `person:read`."""
    expires_at: str
    """When the access token expires. It is refreshed before that."""
    scoped_teams: list[int]
    """Ids of the PostHog projects that the grant is limited to; empty if it is not limited."""
    created_at: str
    updated_at: str
    """When the credential was last stored or refreshed."""
    needs_reconnect: Literal[True] | msgspec.UnsetType = msgspec.UNSET
    """Present only if true: PostHog refused the refresh token, so connect again."""


class CredentialsController(Controller):
    """The stored OAuth credential of one provider."""

    path = "/v1/admin/provider-credentials/{provider:str}"
    guards = (admin_only,)
    tags = ("Admin",)
    security = ADMIN_SECURITY

    @put(
        operation_id="storeCredential",
        summary="Store a credential",
        responses=admin_errors(400, 413),
    )
    async def store_credential(
        self,
        provider: Provider,
        data: JSONBody[StoreCredential],
        bus: NamedDependency[Connection],
        request: Request[Any, Any, Any],
    ) -> StoredCredential:
        """Store or replace the credential. The change is published before the response is sent."""
        _require_json(request)
        credential = PutCredential(provider_id=provider, payload=_payload(data.payload))
        try:
            stored = await bus.request(CREDENTIALS_PUT, credential)
        except InvalidRequest as error:
            # Answered with `ErrorBody`: upstream's command prints an error only if it is a text
            # (contract 0.1).
            raise ClientException(str(error)) from error
        return _without_secrets(stored)

    @get(
        operation_id="getCredential",
        summary="Describe a credential",
        responses=admin_errors(400, 404, 409),
    )
    async def get_credential(
        self, provider: Provider, bus: NamedDependency[Connection]
    ) -> StoredCredential:
        """Describe the stored credential."""
        reference = ProviderRef(provider_id=provider)
        return _without_secrets(await bus.request(CREDENTIALS_GET, reference))

    @delete(
        operation_id="deleteCredential",
        summary="Delete a credential",
        status_code=200,
        responses=admin_errors(400, 404),
    )
    async def delete_credential(
        self, provider: Provider, bus: NamedDependency[Connection]
    ) -> Deleted:
        """Delete the credential and all secrets derived from it, even if they are unreadable."""
        return await bus.request(CREDENTIALS_DELETE, ProviderRef(provider_id=provider))


def _require_json(request: Request[Any, Any, Any]) -> None:
    media_type = request.content_type[0]
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise InvalidRequest("send the body as Content-Type: application/json")


def _payload(grant: OAuthGrant) -> OAuthPayload:
    for field, url in (("tokenEndpoint", grant.token_endpoint), ("clientId", grant.client_id)):
        if not is_absolute_url(url):
            # A schema error (contract 1.3). Credentials checks whether the address is permitted.
            raise InvalidRequest(f"payload.{field} must be an absolute URL")
    return OAuthPayload(
        access_token=grant.access_token,
        refresh_token=grant.refresh_token,
        expires_at=parse_timestamp(grant.expires_at, "payload.expiresAt"),
        token_endpoint=grant.token_endpoint,
        client_id=grant.client_id,
        scopes=grant.scopes,
        scoped_teams=grant.scoped_teams,
        scoped_organizations=grant.scoped_organizations,
    )


def _without_secrets(stored: CredentialMeta) -> StoredCredential:
    return StoredCredential(
        provider_id=stored.provider_id,
        kind=stored.kind,
        scopes=stored.scopes,
        expires_at=format_milliseconds(stored.expires_at),
        scoped_teams=stored.scoped_teams,
        created_at=format_milliseconds(stored.created_at),
        updated_at=format_milliseconds(stored.updated_at),
        needs_reconnect=True if stored.needs_reconnect else msgspec.UNSET,
    )

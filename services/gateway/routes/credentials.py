"""`/v1/admin/provider-credentials/{provider}`: store, describe, delete (contract 1.3 and 1.4)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from litestar import Controller, Request, delete, get, put
from litestar.di import NamedDependency
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
from services.gateway.auth import admin_only
from services.gateway.error_responses import documented
from services.gateway.response_headers import correlation
from services.gateway.timestamps import Moment, parse_moment

Provider = Annotated[
    str, PathParameter(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")
]


class OAuthGrant(msgspec.Struct, frozen=True, rename="camel"):
    """The grant as the CLI sends it."""

    access_token: NonEmpty
    refresh_token: NonEmpty
    expires_at: Moment
    token_endpoint: NonEmpty
    client_id: NonEmpty
    scopes: list[str] = []
    scoped_teams: list[int] = []
    scoped_organizations: list[str] = []


class StoreCredential(msgspec.Struct, frozen=True):
    """Body of the PUT."""

    payload: OAuthGrant
    kind: Literal["oauth"] = "oauth"


class StoredCredential(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What is shown of a stored credential; times in UTC with milliseconds."""

    provider_id: str
    kind: Literal["oauth"]
    scopes: list[str]
    expires_at: str
    scoped_teams: list[int]
    created_at: str
    updated_at: str
    needs_reconnect: bool = False
    """Only there when true: PostHog refused the refresh token, so connect again."""


class CredentialsController(Controller):
    """The stored OAuth credential of one provider."""

    path = "/v1/admin/provider-credentials/{provider:str}"
    guards = [admin_only]  # noqa: RUF012 - litestar reads class attributes
    tags = ["Admin"]  # noqa: RUF012
    security = [{"adminKey": []}]  # noqa: RUF012

    @put(
        operation_id="storeCredential",
        summary="Store a credential",
        responses=documented(400, 401, 403, 413, 429, 503),
    )
    async def store(
        self,
        provider: Provider,
        data: JSONBody[StoreCredential],
        bus: NamedDependency[Connection],
        request: Request[Any, Any, Any],
    ) -> StoredCredential:
        """Store or replace the credential; it is announced on the bus before the answer."""
        _require_json(request)
        stored = await bus.request(
            CREDENTIALS_PUT,
            PutCredential(provider_id=provider, payload=_payload(data.payload)),
            headers=correlation(request),
        )
        return _meta(stored)

    @get(
        operation_id="getCredential",
        summary="Describe a credential",
        responses=documented(400, 401, 403, 404, 409, 429, 503),
    )
    async def describe(
        self, provider: Provider, bus: NamedDependency[Connection], request: Request[Any, Any, Any]
    ) -> StoredCredential:
        """Describe the stored credential."""
        reference = ProviderRef(provider_id=provider)
        return _meta(await bus.request(CREDENTIALS_GET, reference, headers=correlation(request)))

    @delete(
        operation_id="deleteCredential",
        summary="Delete a credential",
        status_code=200,
        responses=documented(400, 401, 403, 404, 429, 503),
    )
    async def remove(
        self, provider: Provider, bus: NamedDependency[Connection], request: Request[Any, Any, Any]
    ) -> Deleted:
        """Delete the credential and what was derived from it, readable or not."""
        reference = ProviderRef(provider_id=provider)
        return await bus.request(CREDENTIALS_DELETE, reference, headers=correlation(request))


def _require_json(request: Request[Any, Any, Any]) -> None:
    media_type = request.content_type[0]
    if media_type != "application/json" and not media_type.endswith("+json"):
        raise InvalidRequest("send the body as Content-Type: application/json")


def _payload(grant: OAuthGrant) -> OAuthPayload:
    return OAuthPayload(
        access_token=grant.access_token,
        refresh_token=grant.refresh_token,
        expires_at=parse_moment(grant.expires_at, "payload.expiresAt"),
        token_endpoint=grant.token_endpoint,
        client_id=grant.client_id,
        scopes=grant.scopes,
        scoped_teams=grant.scoped_teams,
        scoped_organizations=grant.scoped_organizations,
    )


def _meta(stored: CredentialMeta) -> StoredCredential:
    return StoredCredential(
        provider_id=stored.provider_id,
        kind=stored.kind,
        scopes=stored.scopes,
        expires_at=_milliseconds(stored.expires_at),
        scoped_teams=stored.scoped_teams,
        created_at=_milliseconds(stored.created_at),
        updated_at=_milliseconds(stored.updated_at),
        needs_reconnect=stored.needs_reconnect,
    )


def _milliseconds(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

"""Routes of the OAuth server (posthog/api/oauth/views.py)."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

import msgspec
from litestar import Controller, MediaType, Request, Response, get, post
from litestar.di import NamedDependency
from litestar.response import Redirect

from hogsend.contract.json_text import NOT_JSON
from sandbox.http import consent
from sandbox.http.errors import NO_STORE
from sandbox.instance import Instance
from sandbox.oauth.authorization import refusal
from sandbox.oauth.claims import claims
from sandbox.oauth.documents import Client
from sandbox.oauth.errors import OAuthError, RedirectedError, invalid_client
from sandbox.oauth.grants import Access, TokenResponse
from sandbox.oauth.id_tokens import OPENID, KeySet
from sandbox.oauth.introspection import Active, Inactive
from sandbox.oauth.metadata import (
    OpenIdMetadata,
    ResourceMetadata,
    ServerMetadata,
    openid_metadata,
    resource_metadata,
    server_metadata,
)

AnyRequest = Request[Any, Any, Any]


STALE = ("stale-while-revalidate", "stale-if-error")
JWKS_SECONDS = 3600
"""How long clients may cache the keys (`OIDC_JWKS_MAX_AGE_SECONDS`)."""


@get("/.well-known/oauth-authorization-server", sync_to_thread=False)
def authorization_server(instance: NamedDependency[Instance]) -> ServerMetadata:
    """Describe the authorization server."""
    return server_metadata(instance.options.url)


@get("/.well-known/openid-configuration", sync_to_thread=False)
def openid_configuration(instance: NamedDependency[Instance]) -> OpenIdMetadata:
    """Describe the server to OpenID Connect clients."""
    return openid_metadata(instance.options.url)


@get("/.well-known/jwks.json", sync_to_thread=False)
def json_web_keys(instance: NamedDependency[Instance]) -> Response[KeySet]:
    """Return the keys that id tokens are verified with."""
    directives = (f"{name}={JWKS_SECONDS}" for name in ("max-age", *STALE))
    headers = {"Cache-Control": ", ".join(("public", *directives))}
    return Response(instance.id_tokens.keys(), headers=headers)


@get("/.well-known/oauth-protected-resource", sync_to_thread=False)
def protected_resource(instance: NamedDependency[Instance]) -> ResourceMetadata:
    """Describe the API that the tokens are for."""
    return resource_metadata(instance.options.url)


class OAuthController(Controller):
    """Authorize, token, revoke, introspect, userinfo; a trailing slash is optional."""

    path = "/oauth"

    @get("/authorize")
    async def authorize(
        self, request: AnyRequest, instance: NamedDependency[Instance]
    ) -> Response[Any]:
        """Show the consent page, or redirect at once with `auto_consent`."""
        query = dict(request.query_params.items())
        try:
            authorization = await instance.authorizations.read(query)
        except RedirectedError as error:
            return Redirect(refusal(query, error))
        if instance.options.auto_consent:
            return Redirect(instance.authorizations.allow(authorization, instance.project.id))
        request_id = instance.authorizations.remember(authorization)
        html = consent.page(authorization, request_id, instance.project)
        return Response(
            html, media_type=MediaType.HTML, headers=consent.page_headers(authorization)
        )

    @post("/authorize", status_code=303)
    async def decide(
        self, request: AnyRequest, instance: NamedDependency[Instance]
    ) -> Response[Any]:
        """Process the decision from the page's form. PostHog's own page sends JSON."""
        form = await _parameters(request)
        authorization = instance.authorizations.take(form.get("request", ""))
        if form.get("decision") != "allow":
            return Redirect(instance.authorizations.deny(authorization), status_code=303)
        if form.get("project") != str(instance.project.id):
            raise OAuthError("invalid_request", "There is no such project.")
        target = instance.authorizations.allow(authorization, instance.project.id)
        return Redirect(target, status_code=303)

    @post("/token", status_code=200)
    async def token(
        self, request: AnyRequest, instance: NamedDependency[Instance]
    ) -> Response[TokenResponse]:
        """Exchange a code or a refresh token. Accepts form and JSON bodies."""
        form = await _parameters(request)
        return Response(_grant(request, form, instance), headers=NO_STORE)

    @post("/revoke", status_code=200)
    async def revoke(
        self, request: AnyRequest, instance: NamedDependency[Instance]
    ) -> Response[None]:
        """Revoke a token. The status is 200 for an unknown token and another client's as well."""
        form = await _parameters(request)
        if not (token := form.get("token")):
            raise OAuthError("invalid_request", "Missing token parameter.")
        instance.grants.revoke(token, _client(request, form, instance).client_id)
        return Response(None, media_type=MediaType.HTML)

    @get("/introspect", sync_to_thread=False)
    def introspect_in_query(
        self, request: AnyRequest, instance: NamedDependency[Instance]
    ) -> Active | Inactive:
        """Describe a token to its own client, like POST; the token is in the query."""
        token = request.query_params.get("token", "")
        return instance.introspection.describe(_bearer_token(request), token)

    @post("/introspect", status_code=200)
    async def introspect(
        self, request: AnyRequest, instance: NamedDependency[Instance]
    ) -> Active | Inactive:
        """Describe a token to its own client."""
        token = (await _parameters(request)).get("token", "")
        return instance.introspection.describe(_bearer_token(request), token)

    @get("/userinfo", sync_to_thread=False)
    def userinfo(
        self, request: AnyRequest, instance: NamedDependency[Instance]
    ) -> dict[str, str | bool]:
        """Return the user who allowed the client. Requires the scope `openid`."""
        scopes = _bearer(request, instance).reach.scopes
        if not {OPENID, "*"} & set(scopes):
            raise OAuthError("insufficient_scope", status=403)
        return claims(scopes)


def _grant(request: AnyRequest, form: dict[str, str], instance: Instance) -> TokenResponse:
    """Process a token request. Parameters are checked in the order of oauthlib's grants."""
    match form.get("grant_type"):
        case "authorization_code":
            if (code := form.get("code")) is None:
                raise OAuthError("invalid_request", "Missing code parameter.")
            return instance.grants.exchange(
                code,
                _client(request, form, instance),
                form.get("redirect_uri"),
                form.get("code_verifier"),
            )
        case "refresh_token":
            if (token := form.get("refresh_token")) is None:
                raise OAuthError("invalid_request", "Missing refresh token parameter.")
            client = _client(request, form, instance)
            return instance.grants.refresh(token, client.client_id, form.get("scope", ""))
        case "password":
            raise OAuthError("invalid_request", "Request is missing username parameter.")
        case "client_credentials":
            raise invalid_client()
    raise OAuthError("unsupported_grant_type")


def _client(request: AnyRequest, form: dict[str, str], instance: Instance) -> Client:
    """Return the client. It must have requested authorization before, and must send no secret."""
    client = instance.documents.cached(form.get("client_id", ""))
    has_secret = form.get("client_secret") or _scheme(request) == "Basic"
    if client is None or has_secret:
        raise invalid_client()
    return client


def _bearer(request: AnyRequest, instance: Instance) -> Access:
    access = instance.grants.access(_bearer_token(request))
    if access is None or access.expires <= instance.clock.now():
        raise OAuthError("invalid_token", status=401)
    return access


def _bearer_token(request: AnyRequest) -> str:
    """Return the bearer token of a request; empty without one."""
    _, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if _scheme(request) == "Bearer" else ""


def _scheme(request: AnyRequest) -> str:
    return request.headers.get("Authorization", "").partition(" ")[0]


async def _parameters(request: AnyRequest) -> dict[str, str]:
    body = await request.body()
    if request.headers.get("Content-Type", "").split(";")[0].strip() != "application/json":
        return dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))
    if not body:
        return {}
    try:
        parameters = msgspec.json.decode(body)
    except NOT_JSON as error:
        raise OAuthError("invalid_request", "Invalid JSON payload") from error
    if not isinstance(parameters, dict):
        raise OAuthError("invalid_request", "JSON payload must be an object")
    for name, value in parameters.items():
        if isinstance(value, (dict, list)):
            raise OAuthError("invalid_request", f"Parameter '{name}' must be a string")
    return {name: str(value) for name, value in parameters.items() if value is not None}

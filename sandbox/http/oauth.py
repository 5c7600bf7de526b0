"""Routes of the OAuth server (posthog/api/oauth/views.py)."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

import msgspec
from litestar import Controller, MediaType, Request, Response, get, post
from litestar.di import NamedDependency
from litestar.response import Redirect

from sandbox.http import consent
from sandbox.http.errors import NO_STORE
from sandbox.instance import Instance
from sandbox.oauth.authorization import refusal
from sandbox.oauth.errors import OAuthError, RedirectedError
from sandbox.oauth.grants import Access, TokenAnswer
from sandbox.oauth.metadata import (
    ResourceMetadata,
    ServerMetadata,
    resource_metadata,
    server_metadata,
)
from sandbox.options import USER_ID

AnyRequest = Request[Any, Any, Any]


class Introspection(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whether a token is valid (RFC 7662)."""

    active: bool
    scope: str = ""
    exp: int = 0
    client_id: str = ""
    username: str = ""


class UserInfo(msgspec.Struct, frozen=True):
    """The user who allowed the client."""

    sub: str = USER_ID
    given_name: str = "Sandbox"
    email: str = "sandbox@example.com"
    email_verified: bool = True


@get(
    ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"],
    sync_to_thread=False,
)
def authorization_server(instance: NamedDependency[Instance]) -> ServerMetadata:
    """Describe the authorization server."""
    return server_metadata(instance.options.url)


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
        """Take the decision from the page's form. PostHog's own page sends JSON."""
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
    ) -> Response[TokenAnswer]:
        """Exchange a code or a refresh token; accepts form and JSON bodies."""
        form = await _parameters(request)
        answer = _grant(form, instance)
        return Response(answer, headers=NO_STORE)

    @post("/revoke", status_code=200)
    async def revoke(
        self, request: AnyRequest, instance: NamedDependency[Instance]
    ) -> Response[None]:
        """Revoke a token; an unknown one is answered with 200 too."""
        form = await _parameters(request)
        if not form.get("client_id"):
            raise OAuthError("invalid_client", status=401)
        if not (token := form.get("token")):
            raise OAuthError("invalid_request", "Missing token parameter.")
        instance.grants.revoke(token)
        return Response(None)

    @post("/introspect", status_code=200)
    async def introspect(
        self, request: AnyRequest, instance: NamedDependency[Instance]
    ) -> Introspection:
        """Show whether an access token is valid; requires the scope `introspection`."""
        caller = _bearer(request, instance)
        if not {"introspection", "*"} & set(caller.reach.scopes):
            raise OAuthError("insufficient_scope", status=403)
        form = await _parameters(request)
        if not (token := form.get("token")):
            raise OAuthError("invalid_request", "Token parameter is missing.")
        access = instance.grants.access(token)
        if access is None or access.expires <= instance.clock.now():
            return Introspection(active=False)
        return Introspection(
            active=True,
            scope=" ".join(access.reach.scopes),
            exp=int(access.expires),
            client_id=access.reach.client_id,
            username=UserInfo().email,
        )

    @get("/userinfo", sync_to_thread=False)
    def userinfo(self, request: AnyRequest, instance: NamedDependency[Instance]) -> UserInfo:
        """Show the user who allowed the client; requires the scope `openid`."""
        if not {"openid", "*"} & set(_bearer(request, instance).reach.scopes):
            raise OAuthError("insufficient_scope", status=403)
        return UserInfo()


def _grant(form: dict[str, str], instance: Instance) -> TokenAnswer:
    if not (client_id := form.get("client_id")):
        raise OAuthError("invalid_client", status=401)
    match form.get("grant_type"):
        case "authorization_code":
            if not (code := form.get("code")):
                raise OAuthError("invalid_request", "Missing code parameter.")
            if not (verifier := form.get("code_verifier")):
                raise OAuthError("invalid_request", "Code verifier required.")
            redirect_uri = form.get("redirect_uri", "")
            return instance.grants.exchange(code, client_id, redirect_uri, verifier)
        case "refresh_token":
            if not (token := form.get("refresh_token")):
                raise OAuthError("invalid_request", "Missing refresh token parameter.")
            return instance.grants.refresh(token, client_id)
    raise OAuthError("unsupported_grant_type")


def _bearer(request: AnyRequest, instance: Instance) -> Access:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    access = instance.grants.access(token.strip()) if scheme == "Bearer" else None
    if access is None or access.expires <= instance.clock.now():
        raise OAuthError("invalid_token", status=401)
    return access


async def _parameters(request: AnyRequest) -> dict[str, str]:
    body = await request.body()
    if "json" in request.headers.get("Content-Type", ""):
        try:
            return msgspec.json.decode(body, type=dict[str, str])
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise OAuthError("invalid_request", "The body is not a JSON object.") from error
    return dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))

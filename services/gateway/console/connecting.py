"""`/console/connect`: connects PostHog with OAuth in the browser (docs/adr/0026).

The gateway only passes on the code with which PostHog redirects the browser. The credentials
service has the PKCE verifier, exchanges the code, and stores the tokens. None of these is ever in a
page, a URL or a cookie.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from litestar import MediaType, Request, Response, get, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody

from hogsend.contract.authorizations import (
    CREDENTIALS_AUTHORIZE,
    CREDENTIALS_FINISH_AUTHORIZATION,
    AuthorizationRefusal,
    BeginAuthorization,
    FinishAuthorization,
)
from hogsend.contract.base import Empty
from hogsend.contract.credentials import POSTHOG, CredentialMeta
from hogsend.contract.errors import Forbidden, InvalidRequest
from hogsend.contract.provisioning import PROVISIONER_PROJECTS, GrantedProjects, Refusal
from hogsend.posthog.client_document import CONSOLE_CALLBACK, OWN_PATH, console_callback
from hogsend.posthog.hosts import REGIONS
from hogsend.posthog.scopes import missing
from hogsend.service.settings.shared import PostHogSettings, PublicUrlSettings
from hogsend.transport.connection import Connection
from hogsend.urls import is_loopback
from services.gateway.auth import admin_only, admin_or_reader, check_own_page
from services.gateway.console import connect_cookie
from services.gateway.console.connect_origin import console_origin, why_no_origin
from services.gateway.console.pages import page
from services.gateway.error_responses import RefusalBody, refusal_response
from services.gateway.timestamps import format_milliseconds

Short = Annotated[str, msgspec.Meta(max_length=4096)]


class Connecting(msgspec.Struct, frozen=True, rename="camel"):
    """Whether and how PostHog can be connected in the browser."""

    origin: str | None
    """Origin at which the console must be open. None if PostHog would not redirect to it."""
    reason: str | None
    """Why there is no origin."""
    private_host: str | None
    """PostHog's app host. None if the operator must choose a region."""
    host_explicit: bool
    """Whether the host was configured."""
    project_id: str | None
    """`POSTHOG_PROJECT_ID`. If set, no project has to be chosen."""
    is_local: bool
    """Whether PostHog cannot deliver here, because `API_PUBLIC_URL` is on loopback."""


class Begin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The region of PostHog Cloud, if no host is configured."""

    region: Literal["eu", "us"] | None = None


class Begun(msgspec.Struct, frozen=True, rename="camel"):
    """The consent page that the browser must open."""

    authorize_url: str
    expires_at: str

    def __repr__(self) -> str:
        """Hide the URL, which contains the state."""
        return f"Begun(expires_at={self.expires_at!r})"


class Finish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The query parameters with which PostHog redirected the browser."""

    state: Short = ""
    code: Short | None = None
    error: Short | None = None

    def __repr__(self) -> str:
        """Hide the code."""
        return "Finish(...)"


class Connected(msgspec.Struct, frozen=True, rename="camel"):
    """The stored credential, without tokens."""

    scopes: list[str]
    missing_scopes: list[str]
    scoped_teams: list[int]
    expires_at: str


@get("/console/connect", guards=[admin_or_reader], include_in_schema=False)
async def get_connecting(
    request: Request[Any, Any, Any],
    posthog: NamedDependency[PostHogSettings],
    public: NamedDependency[PublicUrlSettings],
) -> Connecting:
    """Return whether and how PostHog can be connected in this browser."""
    host = request.headers.get("host", "")
    origin = console_origin(public.api_public_url, host, posthog.private_host)
    return Connecting(
        origin=origin,
        reason=None if origin else why_no_origin(public.api_public_url),
        private_host=posthog.private_host,
        host_explicit=posthog.host_explicit,
        project_id=posthog.posthog_project_id,
        is_local=is_loopback(public.api_public_url),
    )


@get("/console/connect/projects", guards=[admin_or_reader], include_in_schema=False)
async def get_projects(bus: NamedDependency[Connection]) -> GrantedProjects:
    """List the projects that the OAuth grant covers, with their names.

    Raises:
        Unavailable: the provisioner does not reply (503).
        Forbidden: NATS has the permissions of an earlier version (503).
    """
    return await bus.request(PROVISIONER_PROJECTS, Empty())


@post("/console/connect/begin", guards=[admin_only], status_code=200, include_in_schema=False)
async def begin(
    data: JSONBody[Begin],
    request: Request[Any, Any, Any],
    *,
    bus: NamedDependency[Connection],
    posthog: NamedDependency[PostHogSettings],
    public: NamedDependency[PublicUrlSettings],
) -> Response[Begun | RefusalBody]:
    """Start an authorization, and bind it to this browser with a cookie.

    Raises:
        PermissionDeniedException: the request was not sent by the console's pages (403).
        InvalidRequest: the region is missing, or given although a host is configured (400).
        Unavailable: the credentials service does not reply (503).
    """
    check_own_page(request)
    host = request.headers.get("host", "")
    origin = console_origin(public.api_public_url, host, posthog.private_host)
    callback = console_callback(origin) if origin else None
    if origin is None or callback is None:
        return _precondition("no_callback", why_no_origin(public.api_public_url), COMMAND)
    if request.headers["origin"].lower() != origin.lower():
        return _precondition(
            "elsewhere",
            f"PostHog redirects to {origin}, which is another address than this page's.",
            f"Open {origin}/console, and connect there.",
        )
    token = connect_cookie.token_of(request.cookies) or connect_cookie.new_token()
    authorization = BeginAuthorization(
        provider_id=POSTHOG,
        private_host=_host(posthog, data.region),
        client_id=f"{origin}{OWN_PATH}",
        redirect_uri=callback,
        browser_sha256=connect_cookie.digest_of(token),
    )
    try:
        started = await bus.request(CREDENTIALS_AUTHORIZE, authorization)
    except Forbidden:
        return _precondition("not_permitted", NOT_PERMITTED, COMMAND)
    if started.authorize_url is None or started.expires_at is None:
        return _refusal(started.refusal)
    cookie = connect_cookie.cookie_with(token, secure=origin.startswith("https:"))
    return Response(
        Begun(started.authorize_url, format_milliseconds(started.expires_at)),
        media_type=MediaType.JSON,
        headers={"Set-Cookie": cookie},
    )


@get(CONSOLE_CALLBACK, include_in_schema=False)
async def get_callback() -> Response[bytes]:
    """Return the console's page, whose script reads the code from the URL and sends it to `finish`.

    The redirect from PostHog carries no session cookie (`SameSite=Strict`). The page's own requests
    do.
    """
    return page(cache_control="no-store")


@post("/console/connect/finish", guards=[admin_only], status_code=200, include_in_schema=False)
async def finish(
    data: JSONBody[Finish], request: Request[Any, Any, Any], bus: NamedDependency[Connection]
) -> Response[Connected | RefusalBody]:
    """Have the code exchanged for tokens and stored, if this browser started the authorization.

    Raises:
        PermissionDeniedException: the request was not sent by the console's pages (403).
        Unavailable: the credentials service does not reply (503).
    """
    check_own_page(request)
    reply = await bus.request(
        CREDENTIALS_FINISH_AUTHORIZATION,
        FinishAuthorization(
            provider_id=POSTHOG,
            state=data.state,
            browser_sha256=connect_cookie.digest_of(connect_cookie.token_of(request.cookies) or ""),
            code=data.code,
            error=data.error,
        ),
    )
    if reply.credential is None:
        return _refusal(reply.refusal)
    return Response(_connected(reply.credential), media_type=MediaType.JSON)


NOT_PERMITTED = (
    "The NATS server has the permissions of an earlier version, which do not allow the gateway to "
    "connect PostHog."
)
COMMAND = "Use `hogsend connect posthog`, for which PostHog redirects to your own machine."


def _host(posthog: PostHogSettings, region: str | None) -> str:
    if posthog.private_host is not None:
        if region is not None:
            raise InvalidRequest(f"region: this server belongs to {posthog.private_host}")
        return posthog.private_host
    if region is None:
        raise InvalidRequest("region: choose eu or us, or set POSTHOG_HOST on the server")
    # Any other host must be configured on the server, not chosen in a page (docs/adr/0026).
    return REGIONS[region]


def _connected(stored: CredentialMeta) -> Connected:
    return Connected(
        scopes=stored.scopes,
        missing_scopes=missing(stored.scopes),
        scoped_teams=stored.scoped_teams,
        expires_at=format_milliseconds(stored.expires_at),
    )


def _refusal(refusal: AuthorizationRefusal | None) -> Response[Any]:
    if refusal is None:
        return refusal_response(None)
    # These two are problems of this browser (409). The others are PostHog's (502).
    if refusal.code in {"authorization_expired", "state_mismatch"}:
        return _precondition(refusal.code, refusal.detail, refusal.remediation)
    return refusal_response(Refusal("posthog", refusal.code, refusal.detail, refusal.remediation))


def _precondition(code: str, detail: str, remediation: str) -> Response[Any]:
    return refusal_response(Refusal("precondition", code, detail, remediation))


CONNECT_ROUTES: list[HTTPRouteHandler] = [
    get_connecting,
    get_projects,
    begin,
    get_callback,
    finish,
]

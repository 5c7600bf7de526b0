"""`/console/connect`: PostHog's consent, asked for in the browser (docs/adr/0026).

The gateway hands on what the browser brings. Verifier, exchange and tokens are the credentials
service's; nothing of them is in a page, an address or a cookie.
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
from services.gateway.console.connect_origin import console_origin, why_none
from services.gateway.console.pages import page
from services.gateway.error_responses import RefusalBody, refusal_response
from services.gateway.timestamps import format_milliseconds

Short = Annotated[str, msgspec.Meta(max_length=4096)]


class Connecting(msgspec.Struct, frozen=True, rename="camel"):
    """How PostHog can be connected in a browser."""

    origin: str | None
    """Where the console has to be open for it; None where PostHog would not come back to it."""
    reason: str | None
    """Why there is none."""
    private_host: str | None
    """PostHog's app host; None where a region has to be chosen."""
    host_explicit: bool
    """Whether the operator named it."""
    project_id: str | None
    """`POSTHOG_PROJECT_ID`: with it there is no project to choose."""
    is_local: bool
    """Whether PostHog cannot deliver here: only this machine reaches `API_PUBLIC_URL`."""


class Begin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which PostHog, where the server does not know."""

    region: Literal["eu", "us"] | None = None


class Begun(msgspec.Struct, frozen=True, rename="camel"):
    """The consent page to open."""

    authorize_url: str
    expires_at: str


class Finish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What PostHog sent the browser back with."""

    state: Short = ""
    code: Short | None = None
    error: Short | None = None

    def __repr__(self) -> str:
        """Show nothing of it."""
        return "Finish(...)"


class Connected(msgspec.Struct, frozen=True, rename="camel"):
    """The stored credential; no token."""

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
    """Say whether PostHog can be connected in this browser."""
    host = request.headers.get("host", "")
    origin = console_origin(public.api_public_url, host, posthog.private_host)
    return Connecting(
        origin=origin,
        reason=None if origin else why_none(public.api_public_url),
        private_host=posthog.private_host,
        host_explicit=posthog.host_explicit,
        project_id=posthog.posthog_project_id,
        is_local=is_loopback(public.api_public_url),
    )


@get("/console/connect/projects", guards=[admin_or_reader], include_in_schema=False)
async def get_projects(bus: NamedDependency[Connection]) -> GrantedProjects:
    """List the projects that the grant covers, with their names.

    Raises:
        Unavailable: the provisioner is not there (503).
        Forbidden: NATS has the configuration of an earlier version (503).
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
    """Prepare the consent page, and mark this browser as the one that may come back.

    Raises:
        PermissionDeniedException: the request is not from the console's pages (403).
        InvalidRequest: the region is missing, or not to be chosen (400).
        Unavailable: the credentials service is not there (503).
    """
    check_own_page(request)
    host = request.headers.get("host", "")
    origin = console_origin(public.api_public_url, host, posthog.private_host)
    callback = console_callback(origin) if origin else None
    if origin is None or callback is None:
        return _precondition("no_callback", why_none(public.api_public_url), COMMAND)
    if request.headers["origin"].lower() != origin.lower():
        return _precondition(
            "elsewhere", f"PostHog comes back to {origin}.", f"Open {origin}/console there."
        )
    mark = connect_cookie.mark_of(request.cookies) or connect_cookie.new_mark()
    wanted = BeginAuthorization(
        provider_id=POSTHOG,
        private_host=_host(posthog, data.region),
        client_id=f"{origin}{OWN_PATH}",
        redirect_uri=callback,
        browser_sha256=connect_cookie.digest_of(mark),
    )
    try:
        begun = await bus.request(CREDENTIALS_AUTHORIZE, wanted)
    except Forbidden:
        return _precondition("not_permitted", NOT_PERMITTED, COMMAND)
    if begun.authorize_url is None or begun.expires_at is None:
        return _of(begun.refusal)
    cookie = connect_cookie.cookie_with(mark, secure=origin.startswith("https:"))
    return Response(
        Begun(begun.authorize_url, format_milliseconds(begun.expires_at)),
        media_type=MediaType.JSON,
        headers={"Set-Cookie": cookie},
    )


@get(CONSOLE_CALLBACK, include_in_schema=False)
async def get_callback() -> Response[bytes]:
    """Give the console's page, whose script takes PostHog's answer out of the address.

    The browser brings no session here: the page asks in its own name.
    """
    return page(cache="no-store")


@post("/console/connect/finish", guards=[admin_only], status_code=200, include_in_schema=False)
async def finish(
    data: JSONBody[Finish], request: Request[Any, Any, Any], bus: NamedDependency[Connection]
) -> Response[Connected | RefusalBody]:
    """Have PostHog's answer exchanged and stored, if this browser asked for it.

    Raises:
        PermissionDeniedException: the request is not from the console's pages (403).
        Unavailable: the credentials service is not there (503).
    """
    check_own_page(request)
    finished = await bus.request(
        CREDENTIALS_FINISH_AUTHORIZATION,
        FinishAuthorization(
            provider_id=POSTHOG,
            state=data.state,
            browser_sha256=connect_cookie.digest_of(connect_cookie.mark_of(request.cookies) or ""),
            code=data.code,
            error=data.error,
        ),
    )
    if finished.credential is None:
        return _of(finished.refusal)
    return Response(_connected(finished.credential), media_type=MediaType.JSON)


NOT_PERMITTED = (
    "The NATS server has the configuration of an earlier version, which does not let this gateway "
    "ask for it."
)
COMMAND = "Use `hogsend connect posthog`, which PostHog answers on your own machine."


def _host(posthog: PostHogSettings, region: str | None) -> str:
    if posthog.private_host is not None:
        if region is not None:
            raise InvalidRequest(f"region: this server belongs to {posthog.private_host}")
        return posthog.private_host
    if region is None:
        raise InvalidRequest("region: choose eu or us, or set POSTHOG_HOST on the server")
    # Any other host has to be named by the operator, not in a page (docs/adr/0026).
    return REGIONS[region]


def _connected(stored: CredentialMeta) -> Connected:
    return Connected(
        scopes=stored.scopes,
        missing_scopes=missing(stored.scopes),
        scoped_teams=stored.scoped_teams,
        expires_at=format_milliseconds(stored.expires_at),
    )


def _of(refusal: AuthorizationRefusal | None) -> Response[Any]:
    if refusal is None:
        return refusal_response(None)
    # What PostHog refused is 502, as for provisioning; the rest is about this browser.
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

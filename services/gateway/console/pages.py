"""`GET /console`: the page and its files. `/console/session`: signing in and out.

The page contains no data. It requests the same admin routes as other clients, with a session
cookie. docs/adr/0018-console.md explains why it is plain HTML without a framework.
"""

from __future__ import annotations

from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from litestar import MediaType, Request, Response, delete, get, post
from litestar.background_tasks import BackgroundTask
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency
from litestar.exceptions import (
    NotAuthorizedException,
    NotFoundException,
    PermissionDeniedException,
    TooManyRequestsException,
)
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.params import FromPath, JSONBody, QueryParameter
from litestar.response import Redirect, Stream

from hogsend.service.nul import text_without_nul
from services.gateway import sessions
from services.gateway.admin_keys import AdminKeys, Scope
from services.gateway.auth import (
    ADMIN_STATE,
    SESSION_STATE,
    admin_or_reader,
    check_own_page,
    count_failure,
)
from services.gateway.body_budget import SMALL_BYTES
from services.gateway.console import connect_cookie
from services.gateway.console.live import EventFilter, LiveEvents, TooManyWatchers
from services.gateway.request_timeouts import BODY_LIMIT_STATE
from services.gateway.response_headers import RETRY_AFTER

Filter = Annotated[str | None, QueryParameter(max_length=4096)]

_DIRECTORY = Path(__file__).with_name("static")
_PAGE = "index.html"
_MEDIA_TYPES = {
    file.name: {".js": "text/javascript", ".css": "text/css"}[file.suffix]
    for file in _DIRECTORY.iterdir()
    if file.name != _PAGE
}
_COOKIES = (sessions.SECURE, sessions.PLAIN, connect_cookie.SECURE, connect_cookie.PLAIN)
_HEADERS = {
    # No inline scripts or styles, and nothing from other origins.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-cache",
}


@get("/", include_in_schema=False)
async def get_root() -> Redirect:
    """Redirect to the console: `hogsend up` prints the gateway's address, and users open it."""
    return Redirect("/console", headers={"Cache-Control": "no-cache"})


@get("/console", include_in_schema=False)
async def get_console() -> Response[bytes]:
    """Return the page, which is the same for all users."""
    return page()


def page(cache_control: str = "no-cache") -> Response[bytes]:
    """Return the console's page, with its content security policy and this `Cache-Control`."""
    headers = {**_HEADERS, "Cache-Control": cache_control}
    return Response(_content(_PAGE), media_type="text/html", headers=headers)


@get("/console/{name:str}", include_in_schema=False)
async def get_console_file(name: FromPath[str]) -> Response[bytes]:
    """Return a script or stylesheet of the page.

    Raises:
        NotFoundException: the page has no such file (404).
    """
    if name not in _MEDIA_TYPES:
        raise NotFoundException
    return Response(_content(name), media_type=_MEDIA_TYPES[name], headers=_HEADERS)


class SignIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The key to sign in with."""

    key: str

    def __repr__(self) -> str:
        """Hide the key."""
        return "SignIn(...)"


class Session(msgspec.Struct, frozen=True):
    """The permissions of a session."""

    scope: Literal["full-admin", "read"]


@get("/console/session", guards=[admin_or_reader], include_in_schema=False)
async def get_session(request: Request[Any, Any, Any]) -> Session:
    """Return this browser's session. The guard answers 401 if it is not signed in."""
    scope = request.state[ADMIN_STATE].removeprefix("console:")
    return Session("read" if scope == Scope.READ.value else "full-admin")


async def unauthenticated_body(
    connection: ASGIConnection[Any, Any, Any, Any], _handler: BaseRouteHandler
) -> None:
    """Guard of a route that reads a body before a key is checked: it limits the body's size.

    Clients without a key must not occupy memory for which other requests wait.
    """
    connection.scope["state"][BODY_LIMIT_STATE] = SMALL_BYTES


@post(
    "/console/session",
    guards=[unauthenticated_body],
    request_max_body_size=SMALL_BYTES,
    status_code=200,
    include_in_schema=False,
)
async def sign_in(data: JSONBody[SignIn], request: Request[Any, Any, Any]) -> Response[Session]:
    """Sign in with a key: start a session, and set its cookie.

    Raises:
        NotAuthorizedException: the key is unknown, or was replaced (401).
        PermissionDeniedException: it is an ingest key, or a page of another origin sent the
            request (403).
        TooManyRequestsException: there were too many wrong keys (429).
    """
    check_own_page(request)
    keys: AdminKeys = request.app.state.admin_keys
    grant = keys.sign_in(data.key)
    if grant is None:
        count_failure(request, data.key)
        raise NotAuthorizedException("This key is not known")
    scope, cookie = grant
    request.state[ADMIN_STATE] = f"console:{scope.value}"
    if scope is Scope.INGEST:
        raise PermissionDeniedException("This key may only report events")
    if cookie is None:
        raise NotAuthorizedException("This key was replaced: sign in with the current one")
    is_secure = request.headers["origin"].startswith("https:")
    name = sessions.SECURE if is_secure else sessions.PLAIN
    request.state[SESSION_STATE] = [sessions.set_cookie(name, cookie)]
    session = Session("read" if scope is Scope.READ else "full-admin")
    return Response(session, media_type=MediaType.JSON)


@delete("/console/session", status_code=204, include_in_schema=False)
async def sign_out(request: Request[Any, Any, Any]) -> None:
    """Delete the cookies.

    A copy of the session cookie stays valid until it expires or the key is replaced.

    The cookie of a connection to PostHog that is in progress is deleted as well, so that another
    user of the browser cannot finish it.
    """
    check_own_page(request)
    # A browser that used both http and https has two cookies of each kind.
    request.state[SESSION_STATE] = [sessions.set_cookie(name, "", 0) for name in _COOKIES]


@get("/console/live", guards=[admin_or_reader], include_in_schema=False)
async def watch_events(
    request: Request[Any, Any, Any],
    live: NamedDependency[LiveEvents],
    event: Filter = None,
    user_id: Annotated[str | None, QueryParameter(name="userId", max_length=4096)] = None,
    source: Filter = None,
) -> Stream:
    """Stream events as they are announced, as server-sent events.

    Raises:
        TooManyRequestsException: too many streams are open (429).
        Unavailable: NATS is unavailable (503).
    """
    filters = EventFilter(
        event=_announced(event), user_id=_announced(user_id), source=_announced(source)
    )
    # Litestar reads a streaming request too, to notice a disconnect. A body that is refused only
    # then would cut off the response.
    await request.body()
    try:
        stream = await live.watch(filters)
    except TooManyWatchers:
        raise TooManyRequestsException(
            "Too many pages are watching events already", headers={**RETRY_AFTER}
        ) from None
    # X-Accel-Buffering: proxies such as nginx must not buffer the stream.
    return Stream(
        stream,
        media_type="text/event-stream",
        headers={"X-Accel-Buffering": "no"},
        background=BackgroundTask(live.sent),
    )


def _announced(filter: str | None) -> str | None:
    """Remove NUL from a filter. It is removed from events, too: PostgreSQL cannot store it."""
    return text_without_nul(filter) if filter else None


def is_console_enabled(configured: bool | None, *, host: str) -> bool:
    """Whether the gateway serves the console.

    Args:
        configured: the setting `CONSOLE`. If unset, the console is served only on loopback.
        host: address that the gateway listens on.
    """
    return _is_loopback(host) if configured is None else configured


CONSOLE_ROUTES: list[HTTPRouteHandler] = [
    get_root,
    get_console,
    get_session,
    sign_in,
    sign_out,
    watch_events,
    get_console_file,
]


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


@cache
def _content(name: str) -> bytes:
    return (_DIRECTORY / name).read_bytes()

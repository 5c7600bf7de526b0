"""Guards of routes: they require a key or session that may use the route (contract 0.2).

The guards are coroutines because Litestar calls plain functions in a thread.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from litestar.connection import ASGIConnection
from litestar.exceptions import (
    NotAuthorizedException,
    PermissionDeniedException,
    TooManyRequestsException,
)
from litestar.handlers import BaseRouteHandler
from litestar.openapi.spec import SecurityRequirement

from services.gateway import sessions
from services.gateway.admin_keys import AdminKeys, Scope

RATE_LIMIT_STATE = "rate_limit"
"""Key of the request's state: the limit a minute, and how many requests remain."""
ADMIN_STATE = "admin"
"""Key of the request's state: the scope of its key, which the audit trail names as the actor.

For a session of the console it is `console:` followed by the scope.
"""
SESSION_STATE = "session"
"""Key of the request's state: `Set-Cookie` headers that renew its session; empty if not due."""

ADMIN_SECURITY: tuple[SecurityRequirement, ...] = ({"adminKey": []},)
"""OpenAPI security of routes that accept the admin key; `openapi.py` declares the schemes."""
READ_KEY: tuple[SecurityRequirement, ...] = ({"readKey": []},)
"""Added to `ADMIN_SECURITY` for routes with `admin_or_reader`."""
INGEST_KEY: tuple[SecurityRequirement, ...] = ({"ingestKey": []},)
"""Added to `ADMIN_SECURITY` for routes with `reporters_only`."""

_NEXT_MINUTE = {"Retry-After": "60"}

AnyConnection: TypeAlias = ASGIConnection[Any, Any, Any, Any]


async def admin_only(connection: AnyConnection, _handler: BaseRouteHandler) -> None:
    """Accept full-admin keys.

    Raises:
        NotAuthorizedException: the key is missing or unknown (401).
        PermissionDeniedException: the key is valid but not full-admin (403).
        TooManyRequestsException: the rate limit, or the limit for wrong keys, is exceeded (429).
    """
    _require(connection, {Scope.FULL_ADMIN})


async def admin_or_reader(connection: AnyConnection, _handler: BaseRouteHandler) -> None:
    """Accept full-admin and read keys; raises like `admin_only`."""
    _require(connection, {Scope.FULL_ADMIN, Scope.READ})


async def reporters_only(connection: AnyConnection, _handler: BaseRouteHandler) -> None:
    """Accept ingest and full-admin keys, without a rate limit; else raises like `admin_only`."""
    _scope_of(connection, {Scope.FULL_ADMIN, Scope.INGEST}, audited=False)


def _require(connection: AnyConnection, scopes: set[Scope]) -> None:
    keys: AdminKeys = connection.app.state.admin_keys
    scope = _scope_of(connection, scopes, audited=True)
    limit, remaining = keys.count_request(scope)
    connection.state[RATE_LIMIT_STATE] = (limit, max(remaining, 0))
    if remaining < 0:
        raise TooManyRequestsException("Rate limit exceeded", headers={**_NEXT_MINUTE})


def _scope_of(connection: AnyConnection, scopes: set[Scope], *, audited: bool) -> Scope:
    keys: AdminKeys = connection.app.state.admin_keys
    authorization = connection.headers.get("authorization")
    actor = ""
    if authorization is None and audited and keys.console:
        scope = _scope_of_session(connection, keys)
        actor = "console:"
    else:
        scope = keys.scope(authorization)
        if scope is None and authorization is not None:
            count_failure(connection, authorization)
    if scope is None:
        raise NotAuthorizedException("Unauthorized")
    if audited:
        connection.state[ADMIN_STATE] = actor + scope.value
    if scope not in scopes:
        raise PermissionDeniedException("Forbidden: insufficient scope")
    return scope


def count_failure(connection: AnyConnection, secret: str) -> None:
    """Count a wrong key or cookie.

    Raises:
        TooManyRequestsException: there were too many (429).
    """
    keys: AdminKeys = connection.app.state.admin_keys
    # Requests with a valid key are never refused for the wrong keys of their address: behind a
    # proxy that is not trusted, all clients have the same address.
    if keys.count_failure(secret, keys.addresses.of(connection.scope)):
        raise TooManyRequestsException("Too many wrong keys", headers={**_NEXT_MINUTE})


def check_own_page(connection: AnyConnection) -> None:
    """Require that a request was sent by the console's own pages.

    Raises:
        PermissionDeniedException: it was not (403).
    """
    keys: AdminKeys = connection.app.state.admin_keys
    scope: Any = connection.scope
    try:
        sessions.check_origin(scope["method"], connection.headers, keys.public_url)
    except sessions.Forged as error:
        raise PermissionDeniedException(f"Forbidden: {error}") from None


def _scope_of_session(connection: AnyConnection, keys: AdminKeys) -> Scope | None:
    host = connection.headers.get("host", "")
    cookie = sessions.cookie_of(connection.cookies, host, keys.public_url)
    if cookie is None:
        return None
    name, value = cookie
    scope, renewed = keys.session(value)
    if scope is None:
        # An expired cookie was valid once, so it does not count as a guess.
        if renewed is None:
            count_failure(connection, value)
        return None
    check_own_page(connection)
    connection.state[SESSION_STATE] = [sessions.set_cookie(name, renewed)] if renewed else []
    return scope

"""API keys: what each may do, how often, and when guessing is answered 429 (contract 0.2).

The guards are coroutines because Litestar calls plain functions in a thread.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable
from enum import Enum
from typing import Any, TypeAlias

import structlog
from litestar.connection import ASGIConnection
from litestar.exceptions import (
    NotAuthorizedException,
    PermissionDeniedException,
    TooManyRequestsException,
)
from litestar.handlers import BaseRouteHandler
from litestar.openapi.spec import SecurityRequirement
from prometheus_client import Counter

from services.gateway import sessions
from services.gateway.client_address import ClientAddresses, counted_as
from services.gateway.failure_counts import FailureCounts
from services.gateway.request_rates import RequestRates
from services.gateway.settings import GatewaySettings

log = structlog.get_logger(__name__)

RATE_LIMIT_STATE = "rate_limit"
ADMIN_STATE = "admin"
"""Scope of the key an admin request carried; the audit trail names it as the actor.

A session of the console is named `console:` and the scope of its key.
"""
SESSION_STATE = "session"
"""Cookie that a request's session goes on with, as `Set-Cookie` says it; empty for the same one."""

ADMIN_SECURITY: tuple[SecurityRequirement, ...] = ({"adminKey": []},)
"""Says in OpenAPI that a route takes the admin key; `openapi.py` declares the schemes."""
READ_KEY: tuple[SecurityRequirement, ...] = ({"readKey": []},)
"""Beside it for `admin_or_reader`: the read key will do."""
INGEST_KEY: tuple[SecurityRequirement, ...] = ({"ingestKey": []},)
"""Beside it for `reporters_only`: the ingest key will do."""

FAILED_KEYS = Counter("hogsend_failed_keys", "Requests with an unknown key")

_BEARER = "Bearer "
_REQUEST = "request"
_NEXT_MINUTE = {"Retry-After": "60"}
SHORT_KEY = 16
"""Shorter keys can be guessed: wrong ones are slowed down by nothing but this machine."""

AnyConnection: TypeAlias = ASGIConnection[Any, Any, Any, Any]
Counted: TypeAlias = Callable[[str, str], None]
"""Told for which limit something was counted, and whom for."""


class Scope(Enum):
    """What a key may do."""

    FULL_ADMIN = "full-admin"
    READ = "read"
    INGEST = "ingest"


class AdminKeys:
    """The keys of this gateway, and what remains of their limits this minute."""

    def __init__(
        self,
        settings: GatewaySettings,
        *,
        console: bool = False,
        public_url: str = "",
        counted: Counted = lambda _kind, _who: None,
    ) -> None:
        """Know the keys of the settings.

        Args:
            settings: those of the gateway.
            console: whether there is one, whose cookies are known, too.
            public_url: where the gateway is reached from outside.
            counted: told what was counted, for other processes of this gateway.
        """
        self._counted = counted
        self.console = console
        self.public_url = public_url
        keys = (
            (Scope.FULL_ADMIN, settings.admin_api_key, settings.admin_api_key_previous),
            (Scope.READ, settings.admin_read_api_key, settings.admin_read_api_key_previous),
            (Scope.INGEST, settings.ingest_api_key, settings.ingest_api_key_previous),
        )
        self._keys = [
            (_digest(key.get_secret_value().encode()), scope)
            for scope, current, previous in keys
            for key in (current, *previous)
            if key
        ]
        self._current = [
            (_digest(current.get_secret_value().encode()), scope)
            for scope, current, _ in keys
            if current and scope is not Scope.INGEST
        ]
        if any(
            len(key.get_secret_value()) < SHORT_KEY
            for _, current, previous in keys
            for key in (current, *previous)
            if key
        ):
            log.warning(
                "an API key has fewer than 16 characters and can be guessed; make one with "
                "`openssl rand -hex 32`"
            )
        self._rates = RequestRates(settings.admin_rate_limit)
        self._failures = FailureCounts(settings.admin_failed_key_limit)
        self.addresses = ClientAddresses(settings.trusted_proxies)

    def count_failure(self, authorization: str, address: str) -> bool:
        """Count a wrong key, for the address and for the key itself.

        Returns:
            Whether there were too many of them within a minute.
        """
        FAILED_KEYS.inc()
        by = (
            ("address", counted_as(address)),
            ("key", _digest(authorization.encode()).hex()),
        )
        too_many = any(self._failures.is_over(who) for who in by)
        for who in by:
            self._failures.add(who)
            self._counted(*who)
        return too_many

    def count_elsewhere(self, kind: str, who: str) -> None:
        """Count what another process of this gateway counted."""
        if kind == _REQUEST:
            self._rates.count(who)
        else:
            self._failures.add((kind, who))

    def scope(self, authorization: str | None) -> Scope | None:
        """Scope of the key in an `Authorization` header; None for a missing or unknown key."""
        if authorization is None or not authorization.startswith(_BEARER):
            return None
        # Header values arrive decoded as latin-1, whatever bytes they were.
        presented = _digest(authorization.removeprefix(_BEARER).encode("latin-1", "replace"))
        # Comparing with every key keeps the time independent of which one matches.
        found = [scope for key, scope in self._keys if hmac.compare_digest(key, presented)]
        return found[0] if found else None

    def sign_in(self, key: str) -> tuple[Scope, str | None] | None:
        """Scope of a key and the cookie for it; None for an unknown key.

        There is no cookie for keys that only report events, nor for those that were replaced: what
        ends when a key is replaced cannot begin with the earlier one.
        """
        scope = self.scope(_BEARER + key.encode().decode("latin-1"))
        if scope is None:
            return None
        presented = _digest(key.encode())
        for digest, _ in self._current:
            if hmac.compare_digest(digest, presented):
                return scope, sessions.seal(digest, int(time.time()))
        return scope, None

    def session(self, value: str) -> tuple[Scope | None, str | None]:
        """Scope of a cookie, and the one to go on with if it is time for another.

        Returns:
            No scope and an empty cookie for a session that is over, and no cookie at all for one
            that no key of today sealed.
        """
        now = time.time()
        for digest, scope in self._current:
            issued = sessions.issued_at(value, digest)
            if issued is None:
                continue
            if sessions.is_over(issued, now):
                return None, ""
            is_due = now - issued >= sessions.RENEWED_AFTER
            return scope, sessions.seal(digest, int(now)) if is_due else ""
        return None, None

    def count_request(self, scope: Scope) -> tuple[int, int]:
        """Count a request.

        Returns:
            The limit a minute, and how many requests remain; -1 when this one exceeds it.
        """
        if not self._rates.count(scope.value):
            return self._rates.limit, -1
        self._counted(_REQUEST, scope.value)
        return self._rates.limit, self._rates.remaining(scope.value)


async def admin_only(connection: AnyConnection, _handler: BaseRouteHandler) -> None:
    """Accept full-admin keys.

    Raises:
        NotAuthorizedException: a missing or unknown key (401).
        PermissionDeniedException: a known key that is not full-admin (403).
        TooManyRequestsException: the limit is exceeded, or it is one of many wrong keys (429).
    """
    _require(connection, {Scope.FULL_ADMIN})


async def admin_or_reader(connection: AnyConnection, _handler: BaseRouteHandler) -> None:
    """Accept full-admin and read keys; raises like `admin_only`."""
    _require(connection, {Scope.FULL_ADMIN, Scope.READ})


async def reporters_only(connection: AnyConnection, _handler: BaseRouteHandler) -> None:
    """Accept ingest and full-admin keys, without a limit; else raises like `admin_only`."""
    _scope_of(connection, {Scope.FULL_ADMIN, Scope.INGEST}, audited=False)


def _require(connection: AnyConnection, scopes: set[Scope]) -> None:
    keys: AdminKeys = connection.app.state.admin_keys
    scope = _scope_of(connection, scopes, audited=True)
    limit, left = keys.count_request(scope)
    connection.state[RATE_LIMIT_STATE] = (limit, max(left, 0))
    if left < 0:
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
        TooManyRequestsException: it is one of many (429).
    """
    keys: AdminKeys = connection.app.state.admin_keys
    # Only who sends wrong keys is refused for them: behind a proxy, an address is everybody's.
    if keys.count_failure(secret, keys.addresses.of(connection.scope)):
        raise TooManyRequestsException("Too many wrong keys", headers={**_NEXT_MINUTE})


def check_own_page(connection: AnyConnection) -> None:
    """Require that a request comes from the console's own pages.

    Raises:
        PermissionDeniedException: it does not (403).
    """
    keys: AdminKeys = connection.app.state.admin_keys
    scope: Any = connection.scope
    try:
        sessions.check_origin(scope["method"], connection.headers, keys.public_url)
    except sessions.Forged as error:
        raise PermissionDeniedException(f"Forbidden: {error}") from None


def _scope_of_session(connection: AnyConnection, keys: AdminKeys) -> Scope | None:
    host = connection.headers.get("host", "")
    found = sessions.cookie_of(connection.cookies, host, keys.public_url)
    if found is None:
        return None
    name, value = found
    scope, renewed = keys.session(value)
    if scope is None:
        # What ended by itself was right once, and is no guess.
        if renewed is None:
            count_failure(connection, value)
        return None
    check_own_page(connection)
    connection.state[SESSION_STATE] = [sessions.set_cookie(name, renewed)] if renewed else []
    return scope


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()

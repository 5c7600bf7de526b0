"""API keys: what each may do, how often, and when an address is locked out (contract 0.2)."""

from __future__ import annotations

import hashlib
import hmac
from enum import Enum
from typing import Any, TypeAlias

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from litestar.connection import ASGIConnection
from litestar.exceptions import (
    NotAuthorizedException,
    PermissionDeniedException,
    TooManyRequestsException,
)
from litestar.handlers import BaseRouteHandler
from litestar.openapi.spec import SecurityRequirement
from prometheus_client import Counter

from services.gateway.settings import GatewaySettings

RATE_LIMIT_STATE = "rate_limit"
ACTOR_STATE = "actor"
"""Scope of the key a request carried; the audit trail names it as the actor."""

ADMIN_SECURITY: tuple[SecurityRequirement, ...] = ({"adminKey": []},)
"""Says in OpenAPI that a route needs an admin key; `app.py` declares that scheme."""

FAILED_KEYS = Counter("hogsend_failed_keys", "Requests with an unknown key")

_BEARER = "Bearer "
_FAILED = "failed"

Connection: TypeAlias = ASGIConnection[Any, Any, Any, Any]


class Scope(Enum):
    """What a key may do."""

    FULL_ADMIN = "full-admin"
    READ = "read"
    INGEST = "ingest"


class AdminKeys:
    """The keys of this gateway, and what remains of their limits this minute."""

    def __init__(self, settings: GatewaySettings) -> None:
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
        self._per_minute = RateLimitItemPerMinute(settings.admin_rate_limit)
        self._failures_per_minute = RateLimitItemPerMinute(settings.admin_failed_key_limit)
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def is_locked_out(self, address: str) -> bool:
        """Whether an address sent too many wrong keys within a minute."""
        return not self._limiter.test(self._failures_per_minute, _FAILED, address)

    def count_failure(self, address: str) -> None:
        """Count a wrong key."""
        FAILED_KEYS.inc()
        self._limiter.hit(self._failures_per_minute, _FAILED, address)

    def scope(self, authorization: str | None) -> Scope | None:
        """Scope of the key in an `Authorization` header; None for a missing or unknown key."""
        if authorization is None or not authorization.startswith(_BEARER):
            return None
        # Header values arrive decoded as latin-1, whatever bytes they were.
        presented = _digest(authorization.removeprefix(_BEARER).encode("latin-1", "replace"))
        # Comparing with every key keeps the time independent of which one matches.
        found = [scope for key, scope in self._keys if hmac.compare_digest(key, presented)]
        return found[0] if found else None

    def count_request(self, scope: Scope) -> tuple[int, int]:
        """Count a request.

        Returns:
            The limit a minute, and how many requests remain; -1 when this one exceeds it.
        """
        allowed = self._limiter.hit(self._per_minute, scope.value)
        left = self._limiter.get_window_stats(self._per_minute, scope.value).remaining
        return self._per_minute.amount, left if allowed else -1


def admin_only(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Accept full-admin keys.

    Raises:
        NotAuthorizedException: a missing or unknown key (401).
        PermissionDeniedException: a known key that is not full-admin (403).
        TooManyRequestsException: the limit is exceeded, or the address is locked out (429).
    """
    _require(connection, {Scope.FULL_ADMIN})


def admin_or_reader(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Accept full-admin and read keys; raises like `admin_only`."""
    _require(connection, {Scope.FULL_ADMIN, Scope.READ})


def reporters_only(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Accept ingest and full-admin keys, without a limit; else raises like `admin_only`."""
    _scope_of(connection, {Scope.FULL_ADMIN, Scope.INGEST})


def _require(connection: Connection, scopes: set[Scope]) -> None:
    keys: AdminKeys = connection.app.state.admin_keys
    scope = _scope_of(connection, scopes)
    limit, left = keys.count_request(scope)
    connection.state[RATE_LIMIT_STATE] = (limit, max(left, 0))
    if left < 0:
        raise TooManyRequestsException("Rate limit exceeded", headers={"Retry-After": "60"})


def _scope_of(connection: Connection, scopes: set[Scope]) -> Scope:
    keys: AdminKeys = connection.app.state.admin_keys
    authorization = connection.headers.get("authorization")
    address = connection.client.host if connection.client else ""
    # Before the key is compared: a locked-out address must not learn that a guess was right.
    if keys.is_locked_out(address):
        raise TooManyRequestsException("Too many wrong keys", headers={"Retry-After": "60"})
    scope = keys.scope(authorization)
    if scope is None:
        if authorization is not None:
            keys.count_failure(address)
        raise NotAuthorizedException("Unauthorized")
    connection.state[ACTOR_STATE] = scope.value
    if scope not in scopes:
        raise PermissionDeniedException("Forbidden: insufficient scope")
    return scope


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()

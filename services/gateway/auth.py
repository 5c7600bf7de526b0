"""Keys: who may use `/v1/admin/*`, and how often (contract 0.2); who may report events."""

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
from prometheus_client import Counter

from services.gateway.settings import GatewaySettings

RATE_LIMIT_STATE = "rate_limit"
ACTOR_STATE = "actor"
"""Whose key a request carried, for the audit trail."""

FAILED_KEYS = Counter("hogsend_failed_keys", "Requests with a key that is none of ours")

_BEARER = "Bearer "
_FAILED = "failed"


Connection: TypeAlias = ASGIConnection[Any, Any, Any, Any]


class Scope(Enum):
    """What a key may do."""

    FULL_ADMIN = "full-admin"
    READ = "read"
    INGEST = "ingest"


class AdminKeys:
    """The keys of this gateway, and how many requests each has left this minute."""

    def __init__(self, settings: GatewaySettings) -> None:
        """Take the keys from the environment; without any, every request is refused."""
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
        """Whether too many wrong keys came from an address within a minute."""
        return not self._limiter.test(self._failures_per_minute, _FAILED, address)

    def note_failure(self, address: str) -> None:
        """Count a wrong key."""
        FAILED_KEYS.inc()
        self._limiter.hit(self._failures_per_minute, _FAILED, address)

    def scope(self, authorization: str | None) -> Scope | None:
        """Scope of the key an `Authorization` header carries; None when it carries none of ours."""
        if authorization is None or not authorization.startswith(_BEARER):
            return None
        # Header values arrive decoded as latin-1, whatever bytes they were.
        presented = _digest(authorization.removeprefix(_BEARER).encode("latin-1", "replace"))
        # Every key is compared, so that the time taken tells nothing about which one matched.
        held = [scope for key, scope in self._keys if hmac.compare_digest(key, presented)]
        return held[0] if held else None

    def hit(self, scope: Scope) -> tuple[int, int]:
        """Count a request; gives the limit and how many are left, -1 when it was one too many."""
        allowed = self._limiter.hit(self._per_minute, scope.value)
        left = self._limiter.get_window_stats(self._per_minute, scope.value).remaining
        return self._per_minute.amount, left if allowed else -1


def admin_only(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Let full-admin keys pass.

    Raises:
        NotAuthorizedException: no key, or an unknown one (401).
        PermissionDeniedException: a known key that is not full-admin (403).
        TooManyRequestsException: over the limit (429).
    """
    _require(connection, {Scope.FULL_ADMIN})


def admin_or_reader(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Let full-admin and read keys pass; raises like `admin_only`."""
    _require(connection, {Scope.FULL_ADMIN, Scope.READ})


def reporters_only(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Let ingest and full-admin keys pass, as often as they like; else raises like `admin_only`."""
    _scope_of(connection, {Scope.FULL_ADMIN, Scope.INGEST})


def _require(connection: Connection, scopes: set[Scope]) -> None:
    keys: AdminKeys = connection.app.state.admin_keys
    scope = _scope_of(connection, scopes)
    limit, left = keys.hit(scope)
    connection.state[RATE_LIMIT_STATE] = (limit, max(left, 0))
    if left < 0:
        raise TooManyRequestsException("Rate limit exceeded", headers={"Retry-After": "60"})


def _scope_of(connection: Connection, scopes: set[Scope]) -> Scope:
    keys: AdminKeys = connection.app.state.admin_keys
    authorization = connection.headers.get("authorization")
    address = connection.client.host if connection.client else ""
    # Before the key is looked at, or the right guess would still get through.
    if keys.is_locked_out(address):
        raise TooManyRequestsException("Too many wrong keys", headers={"Retry-After": "60"})
    scope = keys.scope(authorization)
    if scope is None:
        if authorization is not None:
            keys.note_failure(address)
        raise NotAuthorizedException("Unauthorized")
    connection.state[ACTOR_STATE] = scope.value
    if scope not in scopes:
        raise PermissionDeniedException("Forbidden: insufficient scope")
    return scope


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()

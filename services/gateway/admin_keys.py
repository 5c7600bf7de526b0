"""API keys: their scopes, their rate limits, and the limit for wrong keys (contract 0.2)."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable
from enum import Enum
from typing import TypeAlias

import structlog
from prometheus_client import Counter

from services.gateway import sessions
from services.gateway.client_address import ClientAddresses, client_key
from services.gateway.failure_counts import FailureCounts
from services.gateway.request_rates import RequestRates
from services.gateway.settings import GatewaySettings

log = structlog.get_logger(__name__)

FAILED_KEYS = Counter("hogsend_failed_keys", "Requests with an unknown key")

_BEARER = "Bearer "
_REQUEST = "request"
SHORT_KEY = 16
"""Characters below which a key can be guessed, since a client may use many addresses."""

OnCounted: TypeAlias = Callable[[str, str], None]
"""Called with the kind of a limit, and the scope, key or address that was counted."""


class Scope(Enum):
    """What a key may do."""

    FULL_ADMIN = "full-admin"
    READ = "read"
    INGEST = "ingest"


class AdminKeys:
    """The gateway's keys, and the counts of their rate limits."""

    def __init__(
        self,
        settings: GatewaySettings,
        *,
        console: bool = False,
        public_url: str = "",
        on_counted: OnCounted = lambda _kind, _subject: None,
    ) -> None:
        """Read the keys from the settings.

        Args:
            settings: the gateway's settings.
            console: whether the console is enabled; its session cookies are then accepted, too.
            public_url: URL at which the gateway is reached from outside.
            on_counted: called for each count, to report it to the gateway's other processes.
        """
        self._on_counted = on_counted
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
        """Count a request with a wrong key, once for its address and once for the key.

        Returns:
            Whether the address or the key exceeded the limit within a minute before.
        """
        FAILED_KEYS.inc()
        subjects = (
            ("address", client_key(address)),
            ("key", _digest(authorization.encode()).hex()),
        )
        too_many = any(self._failures.is_over(subject) for subject in subjects)
        for subject in subjects:
            self._failures.add(subject)
            self._on_counted(*subject)
        return too_many

    def add_remote_count(self, kind: str, subject: str) -> None:
        """Count what another process of this gateway reported."""
        if kind == _REQUEST:
            self._rates.count(subject)
        else:
            self._failures.add((kind, subject))

    def scope(self, authorization: str | None) -> Scope | None:
        """Return the scope of the key in an `Authorization` header, or None for no valid key."""
        if authorization is None or not authorization.startswith(_BEARER):
            return None
        # Litestar decodes header values as latin-1, whatever bytes the client sent.
        presented = _digest(authorization.removeprefix(_BEARER).encode("latin-1", "replace"))
        # Comparing with every key keeps the time independent of which one matches.
        matches = [scope for key, scope in self._keys if hmac.compare_digest(key, presented)]
        return matches[0] if matches else None

    def sign_in(self, key: str) -> tuple[Scope, str | None] | None:
        """Return the scope of a key and a session cookie for it, or None for an unknown key.

        The cookie is None for ingest keys, and for previous keys: replacing a key ends its
        sessions, so the previous key must not start new ones.
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
        """Check a session cookie.

        Returns:
            The scope, and a new cookie if it is time to renew it, or else an empty text. The scope
            is None for an invalid session; then the text is empty if the session has expired, and
            None if no current key sealed the cookie.
        """
        now = time.time()
        for digest, scope in self._current:
            issued = sessions.issued_at(value, digest)
            if issued is None:
                continue
            if sessions.is_expired(issued, now):
                return None, ""
            is_due = now - issued >= sessions.RENEWED_AFTER
            return scope, sessions.seal(digest, int(now)) if is_due else ""
        return None, None

    def count_request(self, scope: Scope) -> tuple[int, int]:
        """Count a request towards the rate limit of a scope.

        Returns:
            The limit a minute, and how many requests remain, or -1 if this one exceeds the limit.
        """
        if not self._rates.count(scope.value):
            return self._rates.limit, -1
        self._on_counted(_REQUEST, scope.value)
        return self._rates.limit, self._rates.remaining(scope.value)


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()

"""The webhook secret: where it comes from, and whether a presented one matches.

The environment's secret wins. Otherwise it is the one minted at connect, of which the gateway holds
only a digest; a credential event makes it ask again at once. While the secret is unknown the route
is closed.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from enum import Enum, auto
from pathlib import Path

import msgspec
import structlog

from hogsend.contract.credentials import (
    CREDENTIALS_WEBHOOK_SECRET,
    ProviderRef,
    SecretState,
    WebhookSecretReply,
)
from hogsend.contract.errors import HogsendError
from hogsend.service import metrics
from hogsend.service.credential_watcher import CredentialWatcher
from hogsend.transport.connection import Connection

log = structlog.get_logger(__name__)


class SecretCheck(Enum):
    """Outcome of a check."""

    MATCH = auto()
    MISMATCH = auto()
    UNKNOWN = auto()


class WebhookSecret:
    """The secret PostHog's deliveries must carry."""

    def __init__(
        self,
        link: Connection,
        watcher: CredentialWatcher,
        configured: str | None,
        cache: Path | None,
    ) -> None:
        """Start with the environment's secret, else with the digest that an earlier process cached.

        Args:
            link: where the credentials service is asked.
            watcher: tells when the secret may have changed.
            configured: `POSTHOG_WEBHOOK_SECRET`.
            cache: file that keeps the digest, so that a gateway restarted while NATS cannot be
                reached still knows which deliveries to accept. "There is no secret" is never kept.
        """
        self._link = link
        self._watcher = watcher
        self._cache = cache
        self._configured = _digest(configured.encode()) if configured else None
        self._minted = watcher.watch(
            "webhook_secret",
            self._ask,
            at_once=configured is None,
            on_answer=self._learn,
            is_settled=lambda reply: reply.state != "unreadable",
        )
        self._state: SecretState | None = None
        if configured is None and (cached := self._load_cached()):
            self._minted.assume(cached)

    @property
    def known(self) -> bool:
        """Whether a presented secret can be checked."""
        return self._configured is not None or self._minted.is_settled

    @property
    def unreadable(self) -> bool:
        """Whether a secret was minted that no configured `BETTER_AUTH_SECRET` unseals."""
        held = self._minted.held
        return self._configured is None and held is not None and held.state == "unreadable"

    @property
    def version(self) -> int | None:
        """Version of the credential last heard of; None with a secret from the environment."""
        held = self._minted.held
        return held.version if held else None

    def check(self, presented: bytes | None) -> SecretCheck:
        """Check a presented secret in constant time; None means that none was sent."""
        expected = self._configured
        if expected is None:
            held = self._minted.held
            if held is None or held.state == "unreadable":
                return SecretCheck.UNKNOWN
            if held.state == "absent":
                return SecretCheck.MATCH
            expected = held.sha256 or ""
        matches = hmac.compare_digest(_digest(presented or b""), expected)
        return SecretCheck.MATCH if matches and presented is not None else SecretCheck.MISMATCH

    async def refresh(self) -> None:
        """Learn the minted secret now, after something may have changed it.

        While the credentials service cannot be asked, a route that was open is closed: the secret
        that may have been minted meanwhile must not be ignored.
        """
        if self._configured is not None:
            return
        self._minted.outdate()
        try:
            await self._minted.refresh()
        except HogsendError as error:
            metrics.FAILURES.labels("webhook_secret", error.code).inc()
            log.debug("webhook secret not confirmed", reason=str(error))
            held = self._minted.held
            if held is not None and held.state == "absent":
                self._minted.forget()
            self._watcher.hurry()

    async def _ask(self) -> WebhookSecretReply:
        reference = ProviderRef(provider_id=self._watcher.provider)
        return await self._link.request(CREDENTIALS_WEBHOOK_SECRET, reference)

    def _learn(self, reply: WebhookSecretReply) -> None:
        if reply.state != self._state:
            self._state = reply.state
            _announce(reply)
        self._store_cached(reply)

    def _load_cached(self) -> WebhookSecretReply | None:
        if self._cache is None:
            return None
        try:
            return msgspec.json.decode(self._cache.read_bytes(), type=WebhookSecretReply)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            metrics.FAILURES.labels("webhook_secret", "memory").inc()
            log.warning("the cached webhook secret is unreadable", reason=type(error).__name__)
            return None

    def _store_cached(self, reply: WebhookSecretReply) -> None:
        if self._cache is None:
            return
        try:
            if reply.state != "present":
                self._cache.unlink(missing_ok=True)
                return
            fresh = self._cache.with_suffix(".new")
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.encode(reply))
            fresh.replace(self._cache)
        except OSError as error:
            metrics.FAILURES.labels("webhook_secret", "memory").inc()
            log.warning("the webhook secret cannot be cached", reason=str(error))


def _announce(reply: WebhookSecretReply) -> None:
    if reply.state == "absent":
        log.warning(
            "THE POSTHOG WEBHOOK IS OPEN: every client that reaches this gateway can post events. "
            "Set POSTHOG_WEBHOOK_SECRET to close it."
        )
    elif reply.state == "unreadable":
        log.error(
            "the minted webhook secret cannot be decrypted, so webhooks are refused with 503. Was "
            "BETTER_AUTH_SECRET changed? Name the one before in BETTER_AUTH_SECRET_PREVIOUS, or "
            "DELETE /v1/admin/provider-credentials/posthog and connect again."
        )
    else:
        log.info("webhook secret known", version=reply.version)


def _digest(secret: bytes) -> str:
    return hashlib.sha256(secret).hexdigest()

"""The webhook secret: loads it, and checks the secret that a delivery presents.

A secret in the environment takes precedence. Otherwise it is the secret generated at connect, of
which the gateway has only the digest; a credential event makes it request the digest again at once.

Invariant: the route is closed while the secret is unknown, and without a secret it is open only if
there never was one (a first run) or `WEBHOOK_OPEN` allows it.
Why: only the secret distinguishes PostHog's deliveries from forged ones.
Without it: a lost variable or an emptied database would let anybody post events (ADR 13).
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from enum import Enum, auto
from pathlib import Path

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
from services.gateway.webhooks.secret_memory import SecretMemory

log = structlog.get_logger(__name__)


RECHECK_SECONDS = 1.0
"""Minimum interval between requests for the generated secret because of wrong secrets."""

Clock = Callable[[], float]


class SecretCheck(Enum):
    """Outcome of a check."""

    MATCH = auto()
    MISMATCH = auto()
    UNKNOWN = auto()
    """The gateway does not know the secret, so the delivery cannot be checked."""


class WebhookSecret:
    """The secret that PostHog's deliveries must carry."""

    def __init__(
        self,
        link: Connection,
        watcher: CredentialWatcher,
        configured: str | None,
        cache: Path | None,
        *,
        previous: Sequence[str] = (),
        may_be_open: bool | None = None,
        clock: Clock = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Start with the environment's secret, else with the digest that an earlier process cached.

        Args:
            link: connection to the credentials service.
            watcher: notifies when the secret may have changed.
            configured: the setting `POSTHOG_WEBHOOK_SECRET`.
            cache: file that stores the digest; see `SecretMemory`.
            previous: the setting `POSTHOG_WEBHOOK_SECRET_PREVIOUS`; these are accepted as well.
            may_be_open: the setting `WEBHOOK_OPEN`: whether every delivery is accepted while there
                is no secret. None: only while there has never been one.
            clock: monotonic clock in seconds.
            now: the current time, which ends the validity of the previous generated secret.
        """
        self._clock = clock
        self._now = now
        self._recheck_at = 0.0
        self._link = link
        self._watcher = watcher
        self._memory = SecretMemory(cache)
        self._configured = _digest(configured.encode()) if configured else None
        self._previous = [_digest(earlier.encode()) for earlier in previous]
        self._minted = watcher.watch(
            "webhook_secret",
            self._request,
            eager=configured is None,
            on_value=self._on_reply,
            is_usable=lambda reply: reply.state != "unreadable",
        )
        self._is_loaded = asyncio.Event()
        self._may_be_open = may_be_open
        self._last_reply: WebhookSecretReply | None = None
        self._logged_state: SecretState | None = None
        if configured is not None:
            self._remember_secret()
        if configured is None and (cached := self._memory.load()):
            self._minted.preload(cached)
            self._remember_secret()

    @property
    def can_check(self) -> bool:
        """Whether a presented secret can be checked."""
        return self._configured is not None or (self._minted.is_usable and not self.missing)

    async def wait_until_loaded(self, within: float) -> None:
        """Wait until the secret, or its absence, is known, at most `within` seconds."""
        try:
            async with asyncio.timeout(within):
                await self._is_loaded.wait()
        except TimeoutError:
            return

    @property
    def missing(self) -> bool:
        """Whether the route is closed because there is no secret.

        It stays closed until the operator sets a secret, connects PostHog, or sets `WEBHOOK_OPEN`.
        """
        minted = self._minted.value
        if self._configured is not None or minted is None or minted.state != "absent":
            return False
        return not self._is_open_without_secret

    @property
    def _is_open_without_secret(self) -> bool:
        return not self._memory.had_secret if self._may_be_open is None else self._may_be_open

    @property
    def unreadable(self) -> bool:
        """Whether no configured `BETTER_AUTH_SECRET` can unseal the generated secret."""
        minted = self._minted.value
        return self._configured is None and minted is not None and minted.state == "unreadable"

    @property
    def version(self) -> int | None:
        """Latest known version of the credential; None with a secret from the environment."""
        minted = self._minted.value
        return minted.version if minted else None

    def check(self, presented: bytes | None) -> SecretCheck:
        """Check a presented secret in constant time. None means that the delivery has none."""
        expected = self._configured
        if expected is None:
            minted = self._minted.value
            if minted is None or minted.state == "unreadable" or self.missing:
                return SecretCheck.UNKNOWN
            if minted.state == "absent":
                return SecretCheck.MATCH
            expected = minted.sha256 or ""
        digest = _digest(presented or b"")
        accepted = [expected, *self._previous, *self._previous_minted()]
        # All are compared, so that the time does not depend on which one matches.
        matches = [hmac.compare_digest(digest, candidate) for candidate in accepted]
        return SecretCheck.MATCH if any(matches) and presented is not None else SecretCheck.MISMATCH

    async def check_again(self, presented: bytes | None) -> SecretCheck:
        """Request the generated secret, and check a secret that did not match once more.

        A gateway that missed a change must not refuse PostHog's deliveries. The secret is requested
        at most once a second, however many wrong secrets are presented.
        """
        now = self._clock()
        if presented and self._configured is None and now >= self._recheck_at:
            self._recheck_at = now + RECHECK_SECONDS
            await self._confirm()
        return self.check(presented)

    def _previous_minted(self) -> Sequence[str]:
        """Return the digest of the previous generated secret while it is still valid."""
        minted = self._minted.value if self._configured is None else None
        if minted is None or not minted.previous_sha256:
            return ()
        until = minted.previous_until
        return (minted.previous_sha256,) if until is None or self._now() < until else ()

    async def refresh(self) -> None:
        """Request the generated secret now. Call this after an operation that may have changed it.

        If the credentials service does not reply, a route that was open is closed, because a secret
        may have been generated meanwhile.
        """
        if self._configured is not None:
            return
        self._minted.invalidate()
        if await self._confirm():
            return
        minted = self._minted.value
        if minted is not None and minted.state == "absent":
            self._minted.clear()
        self._watcher.revalidate_now()

    async def _confirm(self) -> bool:
        """Request the generated secret. Return whether the credentials service replied."""
        try:
            await self._minted.refresh()
        except HogsendError as error:
            metrics.FAILURES.labels("webhook_secret", error.code).inc()
            log.debug("webhook secret not confirmed", reason=str(error))
            return False
        return True

    async def _request(self) -> WebhookSecretReply:
        reference = ProviderRef(provider_id=self._watcher.provider)
        reply = await self._link.request(CREDENTIALS_WEBHOOK_SECRET, reference)
        minted = self._minted.value
        if minted is not None and _is_lost(reply, minted):
            if self._logged_state != "absent":
                log.error(
                    "the database has lost the webhook secret: was it replaced by an empty one? "
                    "The last known secret stays in force. Restore the backup, or connect again."
                )
                self._logged_state = "absent"
            return minted
        return reply

    def _on_reply(self, reply: WebhookSecretReply) -> None:
        self._is_loaded.set()
        if reply is not self._last_reply:
            if reply.state != "absent":
                self._remember_secret()
            if reply.state != self._logged_state:
                self._logged_state = reply.state
                _log_state(reply, missing=self.missing)
        self._last_reply = reply
        self._memory.store(reply)

    def _remember_secret(self) -> None:
        self._is_loaded.set()
        self._memory.remember_secret()


def _is_lost(reply: WebhookSecretReply, minted: WebhookSecretReply) -> bool:
    """Whether the database lost the secret: a deletion would have increased the version."""
    return reply.state == "absent" and minted.state == "present" and reply.version < minted.version


def _log_state(reply: WebhookSecretReply, *, missing: bool) -> None:
    if missing:
        log.error(
            "there is no webhook secret, so webhooks are refused with 503. Connect PostHog, or set "
            "POSTHOG_WEBHOOK_SECRET; WEBHOOK_OPEN=true accepts them from everybody."
        )
    elif reply.state == "absent":
        log.warning(
            "THE POSTHOG WEBHOOK IS OPEN: every client that reaches this gateway can post events. "
            "Set POSTHOG_WEBHOOK_SECRET to close it."
        )
    elif reply.state == "unreadable":
        log.error(
            "the generated webhook secret cannot be decrypted, so webhooks are refused with 503. "
            "Was BETTER_AUTH_SECRET changed? Set the previous one in BETTER_AUTH_SECRET_PREVIOUS, "
            "or run `hogsend disconnect posthog` and connect again."
        )
    else:
        log.info("webhook secret known", version=reply.version)


def _digest(secret: bytes) -> str:
    return hashlib.sha256(secret).hexdigest()

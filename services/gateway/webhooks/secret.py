"""The webhook secret: where it comes from, and whether a presented one matches.

The environment's secret wins. Otherwise it is the one minted at connect, of which the gateway holds
only a digest; a credential event makes it ask again at once. While the secret is unknown the route
is closed. Without a secret it is open only where there never was one (a first run), or where the
operator says so: a variable or a database that went missing opens nothing (ADR 13).
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


ASK_AGAIN_SECONDS = 1.0

Clock = Callable[[], float]


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
        *,
        previous: Sequence[str] = (),
        may_be_open: bool | None = None,
        clock: Clock = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Start with the environment's secret, else with the digest that an earlier process cached.

        Args:
            link: where the credentials service is asked.
            watcher: tells when the secret may have changed.
            configured: `POSTHOG_WEBHOOK_SECRET`.
            cache: file that keeps the digest; see `SecretMemory`.
            previous: `POSTHOG_WEBHOOK_SECRET_PREVIOUS`, accepted beside the current secret.
            may_be_open: `WEBHOOK_OPEN`, whether every delivery is accepted while there is no
                secret; None for as long as there never was one.
            clock: gives seconds.
            now: gives the time of day, by which an earlier minted secret ends.
        """
        self._clock = clock
        self._now = now
        self._ask_again_at = 0.0
        self._link = link
        self._watcher = watcher
        self._memory = SecretMemory(cache)
        self._configured = _digest(configured.encode()) if configured else None
        self._previous = [_digest(earlier.encode()) for earlier in previous]
        self._minted = watcher.watch(
            "webhook_secret",
            self._ask,
            eager=configured is None,
            on_value=self._learn,
            is_usable=lambda reply: reply.state != "unreadable",
        )
        self._heard = asyncio.Event()
        self._may_be_open = may_be_open
        self._known_before: WebhookSecretReply | None = None
        self._state: SecretState | None = None
        if configured is not None:
            self._remember_secret()
        if configured is None and (cached := self._memory.load()):
            self._minted.preload(cached)
            self._remember_secret()

    @property
    def known(self) -> bool:
        """Whether a presented secret can be checked."""
        return self._configured is not None or (self._minted.is_usable and not self.missing)

    async def heard_of(self, within: float) -> None:
        """Wait until there is anything to go by, but not longer than `within` seconds."""
        try:
            async with asyncio.timeout(within):
                await self._heard.wait()
        except TimeoutError:
            return

    @property
    def missing(self) -> bool:
        """Whether there is no secret, and the route is closed nonetheless.

        It stays like this until the operator sets a secret, connects, or opens it.
        """
        held = self._minted.value
        if self._configured is not None or held is None or held.state != "absent":
            return False
        return not self._is_open_without_secret

    @property
    def _is_open_without_secret(self) -> bool:
        return not self._memory.had_secret if self._may_be_open is None else self._may_be_open

    @property
    def unreadable(self) -> bool:
        """Whether a secret was minted that no configured `BETTER_AUTH_SECRET` unseals."""
        held = self._minted.value
        return self._configured is None and held is not None and held.state == "unreadable"

    @property
    def version(self) -> int | None:
        """Version of the credential last heard of; None with a secret from the environment."""
        held = self._minted.value
        return held.version if held else None

    def check(self, presented: bytes | None) -> SecretCheck:
        """Check a presented secret in constant time; None means that none was sent."""
        expected = self._configured
        if expected is None:
            held = self._minted.value
            if held is None or held.state == "unreadable" or self.missing:
                return SecretCheck.UNKNOWN
            if held.state == "absent":
                return SecretCheck.MATCH
            expected = held.sha256 or ""
        digest = _digest(presented or b"")
        accepted = [expected, *self._previous, *self._minted_before()]
        # Compared with all of them, however early one matches.
        matches = [hmac.compare_digest(digest, one) for one in accepted]
        return SecretCheck.MATCH if any(matches) and presented is not None else SecretCheck.MISMATCH

    async def check_again(self, presented: bytes | None) -> SecretCheck:
        """Check a secret that did not match, with what may have been minted since.

        A gateway that missed the change must not refuse what PostHog sends now. It asks once a
        second at most, however many wrong secrets are tried.
        """
        now = self._clock()
        if presented and self._configured is None and now >= self._ask_again_at:
            self._ask_again_at = now + ASK_AGAIN_SECONDS
            await self._confirm()
        return self.check(presented)

    def _minted_before(self) -> Sequence[str]:
        held = self._minted.value if self._configured is None else None
        if held is None or not held.previous_sha256:
            return ()
        until = held.previous_until
        return (held.previous_sha256,) if until is None or self._now() < until else ()

    async def refresh(self) -> None:
        """Learn the minted secret now, after something may have changed it.

        While the credentials service cannot be asked, a route that was open is closed: the secret
        that may have been minted meanwhile must not be ignored.
        """
        if self._configured is not None:
            return
        self._minted.invalidate()
        if await self._confirm():
            return
        held = self._minted.value
        if held is not None and held.state == "absent":
            self._minted.clear()
        self._watcher.revalidate_now()

    async def _confirm(self) -> bool:
        """Ask what is minted; whether there was an answer."""
        try:
            await self._minted.refresh()
        except HogsendError as error:
            metrics.FAILURES.labels("webhook_secret", error.code).inc()
            log.debug("webhook secret not confirmed", reason=str(error))
            return False
        return True

    async def _ask(self) -> WebhookSecretReply:
        reference = ProviderRef(provider_id=self._watcher.provider)
        reply = await self._link.request(CREDENTIALS_WEBHOOK_SECRET, reference)
        held = self._minted.value
        if held is not None and _is_forgotten(reply, held):
            if self._state != "absent":
                log.error(
                    "the database has forgotten the webhook secret: was it replaced by an empty "
                    "one? The last one known stays in force. Restore the backup, or connect again."
                )
                self._state = "absent"
            return held
        return reply

    def _learn(self, reply: WebhookSecretReply) -> None:
        self._heard.set()
        if reply is not self._known_before:
            if reply.state != "absent":
                self._remember_secret()
            if reply.state != self._state:
                self._state = reply.state
                _announce(reply, missing=self.missing)
        self._known_before = reply
        self._memory.store(reply)

    def _remember_secret(self) -> None:
        self._heard.set()
        self._memory.remember_secret()


def _is_forgotten(reply: WebhookSecretReply, held: WebhookSecretReply) -> bool:
    """Whether a database answers that knows less than was known: deleting makes a new version."""
    return reply.state == "absent" and held.state == "present" and reply.version < held.version


def _announce(reply: WebhookSecretReply, *, missing: bool) -> None:
    if reply.state == "absent" and missing:
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
            "the minted webhook secret cannot be decrypted, so webhooks are refused with 503. Was "
            "BETTER_AUTH_SECRET changed? Name the one before in BETTER_AUTH_SECRET_PREVIOUS, or "
            "run `hogsend disconnect posthog` and connect again."
        )
    else:
        log.info("webhook secret known", version=reply.version)


def _digest(secret: bytes) -> str:
    return hashlib.sha256(secret).hexdigest()

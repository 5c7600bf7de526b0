"""What the gateway knows of the webhook secret, and whether a presented one matches.

The environment's secret wins. Otherwise it is the one minted at connect, of which the gateway only
ever holds a digest; a credential event makes it ask again at once. When it cannot know, it says so,
and the route stays closed.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
from enum import Enum, auto
from pathlib import Path

import msgspec
import structlog
from nats.aio.msg import Msg

from hogsend.contract import subjects
from hogsend.contract.credentials import CREDENTIALS_WEBHOOK_SECRET, ProviderRef, WebhookSecretReply
from hogsend.contract.errors import HogsendError
from hogsend.service import metrics
from hogsend.transport.connection import Connection

log = structlog.get_logger(__name__)

PROVIDER = "posthog"
REVALIDATE_SECONDS = 30.0
"""Backstop for a lost credential event (the seed's bound)."""
UNKNOWN_RETRY_SECONDS = 0.5


class SecretCheck(Enum):
    """Outcome of a check."""

    MATCH = auto()
    MISMATCH = auto()
    UNKNOWN = auto()


class WebhookSecret:
    """The secret PostHog's deliveries must carry."""

    def __init__(self, bus: Connection, configured: str | None, cache: Path | None) -> None:
        """Start from the environment, else from what an earlier process learned.

        Args:
            bus: where the credentials service is asked.
            configured: `POSTHOG_WEBHOOK_SECRET`.
            cache: file that keeps the digest, so that a gateway restarted while the bus is away
                still knows whom to let in. "There is no secret" is never remembered.
        """
        self._bus = bus
        self._cache = cache
        self._configured = _digest(configured.encode()) if configured else None
        self._stored = None if configured else self._load_cached()
        self._changed = asyncio.Event()
        # One question at a time: an answer from before a change must not be the last word.
        self._asking = asyncio.Lock()

    @property
    def known(self) -> bool:
        """Whether a delivery can be judged."""
        return self._configured is not None or (
            self._stored is not None and self._stored.state != "unreadable"
        )

    @property
    def version(self) -> int | None:
        """Version of the credential last heard of; None with a secret from the environment."""
        return self._stored.version if self._stored else None

    def check(self, presented: bytes | None) -> SecretCheck:
        """Judge a presented secret, in constant time; None means none was sent."""
        expected = self._configured
        if expected is None:
            if self._stored is None or self._stored.state == "unreadable":
                return SecretCheck.UNKNOWN
            if self._stored.state == "absent":
                return SecretCheck.MATCH
            expected = self._stored.sha256 or ""
        matches = hmac.compare_digest(_digest(presented or b""), expected)
        return SecretCheck.MATCH if matches and presented is not None else SecretCheck.MISMATCH

    async def follow_forever(self) -> None:
        """Learn the minted secret, and again after every credential event and reconnection."""
        if self._configured is not None:
            return
        self._bus.on_reconnect(self._on_reconnect)
        while True:
            await self._ask()
            pause = REVALIDATE_SECONDS if self.known else UNKNOWN_RETRY_SECONDS
            try:
                await asyncio.wait_for(self._changed.wait(), pause)
            except TimeoutError:
                continue
            finally:
                self._changed.clear()

    async def subscribe(self) -> None:
        """Listen for credential events; call once the bus is connected."""
        await self._bus.client.subscribe(
            subjects.credential_changed(PROVIDER), cb=self._on_credential_changed
        )
        self._changed.set()

    async def refresh(self) -> None:
        """Learn the minted secret now, after something may have changed it.

        When nobody answers, a route that was open is closed until somebody does: the secret that
        may have been minted meanwhile must not be ignored.
        """
        if self._configured is not None or await self._ask():
            return
        if self._stored is not None and self._stored.state == "absent":
            self._stored = None
        self._changed.set()

    async def _ask(self) -> bool:
        async with self._asking:
            try:
                reply = await self._bus.request(
                    CREDENTIALS_WEBHOOK_SECRET, ProviderRef(provider_id=PROVIDER)
                )
            except HogsendError as error:
                metrics.FAILURES.labels("webhook_secret", error.code).inc()
                log.debug("webhook secret not confirmed", reason=str(error))
                return False
            if self._stored is None or self._stored.state != reply.state:
                _announce(reply)
            self._stored = reply
            self._store_cached(reply)
            return True

    async def _on_credential_changed(self, _message: Msg) -> None:
        self._changed.set()

    async def _on_reconnect(self) -> None:
        self._changed.set()

    def _load_cached(self) -> WebhookSecretReply | None:
        if self._cache is None:
            return None
        try:
            return msgspec.json.decode(self._cache.read_bytes(), type=WebhookSecretReply)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            metrics.FAILURES.labels("webhook_secret", "memory").inc()
            log.warning("remembered webhook secret is unreadable", reason=type(error).__name__)
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
            log.warning("webhook secret cannot be remembered", reason=str(error))


def _announce(reply: WebhookSecretReply) -> None:
    if reply.state == "absent":
        log.warning(
            "THE POSTHOG WEBHOOK IS OPEN: anybody who reaches this gateway can post events. "
            "Set POSTHOG_WEBHOOK_SECRET to close it."
        )
    elif reply.state == "unreadable":
        log.error(
            "the minted webhook secret cannot be decrypted, so webhooks are refused with 503. "
            "Was BETTER_AUTH_SECRET rotated? Delete the credential and connect again."
        )
    else:
        log.info("webhook secret known", version=reply.version)


def _digest(secret: bytes) -> str:
    return hashlib.sha256(secret).hexdigest()

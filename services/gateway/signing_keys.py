"""The keys that deliveries may be signed with: the operator's, and those generated at connect.

Generated keys are requested at start, and again with every change of the credential. They are in
memory only. A gateway that starts while NATS is unavailable treats signed deliveries like unsigned
ones, which is safe, because it accepts exactly the senders that it accepts without a signature.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence

import structlog
from standardwebhooks.webhooks import Webhook

from hogsend.contract.credentials import (
    CREDENTIALS_SIGNING_SECRET,
    ProviderRef,
    SecretState,
    SigningSecretReply,
)
from hogsend.contract.errors import HogsendError
from hogsend.posthog.signing import key_id, key_of
from hogsend.service import metrics
from hogsend.service.credential_watcher import CredentialWatcher
from hogsend.service.settings.shared import PostHogSettings
from hogsend.transport.connection import Connection
from services.gateway.settings import GatewaySettings

log = structlog.get_logger(__name__)

Clock = Callable[[], float]


class SigningKeys:
    """The signing keys that are currently valid."""

    def __init__(
        self,
        link: Connection,
        watcher: CredentialWatcher,
        configured: Sequence[str] = (),
        clock: Clock = time.time,
    ) -> None:
        """Start with the configured keys, and request the generated ones.

        Args:
            link: connection to the credentials service.
            watcher: notifies when a generated key may have changed.
            configured: `POSTHOG_SIGNING_SECRET` and `POSTHOG_SIGNING_SECRET_PREVIOUS`.
            clock: Unix time in seconds.
        """
        self._link = link
        self._watcher = watcher
        self._clock = clock
        self._configured = {key_id(secret): Webhook(key_of(secret)) for secret in configured}
        self._current = self._configured
        self._previous: Mapping[str, Webhook] = {}
        self._previous_until = 0.0
        self._state: SecretState | None = None
        self._is_loaded = asyncio.Event()
        self._minted = watcher.watch(
            "signing_secret",
            self._request,
            eager=True,
            on_value=self._on_reply,
            is_usable=lambda reply: reply.state != "unreadable",
        )

    @classmethod
    def of(
        cls,
        link: Connection,
        watcher: CredentialWatcher,
        settings: GatewaySettings,
        posthog: PostHogSettings,
    ) -> SigningKeys:
        """Start with the keys of the settings."""
        current, earlier = posthog.posthog_signing_secret, settings.posthog_signing_secret_previous
        configured = [
            secret.get_secret_value() for secret in (current, *earlier) if secret is not None
        ]
        return cls(link, watcher, configured)

    def in_force(self) -> Mapping[str, Webhook]:
        """Return the keys that are valid now, by their ids."""
        if self._previous and self._clock() < self._previous_until:
            return {**self._previous, **self._current}
        return self._current

    async def wait_until_loaded(self, within: float) -> None:
        """Wait until there is a key, or until it is known that there is none.

        Waits at most `within` seconds.
        """
        if self._configured:
            return
        try:
            async with asyncio.timeout(within):
                await self._is_loaded.wait()
        except TimeoutError:
            return

    async def refresh(self) -> None:
        """Request the generated keys. Concurrent callers share one request.

        Raises:
            HogsendError: the credentials service does not reply.
        """
        await self._minted.refresh()

    async def renew(self) -> None:
        """Request the generated keys now. Call this after an operation that may have changed them.

        If the request fails it is retried soon, and until then the previous keys stay valid.
        """
        self._minted.invalidate()
        try:
            await self._minted.refresh()
        except HogsendError as error:
            metrics.FAILURES.labels("signing_secret", error.code).inc()
            log.debug("signing secret not confirmed", reason=str(error))
            self._watcher.revalidate_now()

    async def _request(self) -> SigningSecretReply:
        reference = ProviderRef(provider_id=self._watcher.provider)
        reply = await self._link.request(CREDENTIALS_SIGNING_SECRET, reference)
        minted = self._minted.value
        # A deletion increases the version. A lower version means that the database lost the key.
        is_lost = minted is not None and reply.state == "absent" and reply.version < minted.version
        return minted if minted is not None and is_lost else reply

    def _on_reply(self, reply: SigningSecretReply) -> None:
        self._is_loaded.set()
        if reply.state != self._state:
            self._state = reply.state
            if reply.state == "unreadable":
                log.error(
                    "the generated signing secret cannot be decrypted, so signatures cannot be "
                    "checked. Was BETTER_AUTH_SECRET changed? Set the previous one in "
                    "BETTER_AUTH_SECRET_PREVIOUS"
                )
        if reply.state == "unreadable":
            # PostHog still signs with the keys that were known before.
            return
        self._current = {**self._configured, **_keys(reply.secret)}
        self._previous = _keys(reply.previous)
        until = reply.previous_until
        self._previous_until = until.timestamp() if until else math.inf


def _keys(secret: str | None) -> dict[str, Webhook]:
    return {key_id(secret): Webhook(key_of(secret))} if secret else {}

"""The keys that deliveries may be signed with: the operator's, and those that connecting minted.

Minted ones are asked for at once, and again with every change of the credential. They are kept in
memory only: a gateway that starts while NATS cannot be reached takes signed deliveries for unsigned
ones, which is no less than an unsigned one has to show.
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
    """Knows the keys in force."""

    def __init__(
        self,
        link: Connection,
        watcher: CredentialWatcher,
        configured: Sequence[str] = (),
        clock: Clock = time.time,
    ) -> None:
        """Start with what the operator set, and ask for what was minted.

        Args:
            link: where the credentials service is asked.
            watcher: tells when a minted key may have changed.
            configured: `POSTHOG_SIGNING_SECRET`, and the ones before it.
            clock: gives seconds since 1970.
        """
        self._link = link
        self._watcher = watcher
        self._clock = clock
        self._configured = {key_id(one): Webhook(key_of(one)) for one in configured}
        self._current = self._configured
        self._previous: Mapping[str, Webhook] = {}
        self._previous_until = 0.0
        self._state: SecretState | None = None
        self._heard = asyncio.Event()
        self._minted = watcher.watch(
            "signing_secret",
            self._ask,
            eager=True,
            on_value=self._learn,
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
        """Know the keys of the settings."""
        current, earlier = posthog.posthog_signing_secret, settings.posthog_signing_secret_previous
        configured = [one.get_secret_value() for one in (current, *earlier) if one is not None]
        return cls(link, watcher, configured)

    def in_force(self) -> Mapping[str, Webhook]:
        """Give the keys that deliveries may be signed with now, by their ids."""
        if self._previous and self._clock() < self._previous_until:
            return {**self._previous, **self._current}
        return self._current

    async def heard_of(self, within: float) -> None:
        """Wait until there is anything to verify with, but not longer than `within` seconds."""
        if self._configured:
            return
        try:
            async with asyncio.timeout(within):
                await self._heard.wait()
        except TimeoutError:
            return

    async def refresh(self) -> None:
        """Ask for the minted keys; callers at the same time share one question.

        Raises:
            HogsendError: the credentials service cannot be asked.
        """
        await self._minted.refresh()

    async def renew(self) -> None:
        """Learn the minted keys now, after something may have changed them.

        What cannot be asked now is asked for again soon, and until then the ones before count.
        """
        self._minted.invalidate()
        try:
            await self._minted.refresh()
        except HogsendError as error:
            metrics.FAILURES.labels("signing_secret", error.code).inc()
            log.debug("signing secret not confirmed", reason=str(error))
            self._watcher.revalidate_now()

    async def _ask(self) -> SigningSecretReply:
        reference = ProviderRef(provider_id=self._watcher.provider)
        reply = await self._link.request(CREDENTIALS_SIGNING_SECRET, reference)
        held = self._minted.value
        forgotten = held is not None and reply.state == "absent" and reply.version < held.version
        return held if held is not None and forgotten else reply

    def _learn(self, reply: SigningSecretReply) -> None:
        self._heard.set()
        if reply.state != self._state:
            self._state = reply.state
            if reply.state == "unreadable":
                log.error(
                    "the minted signing secret cannot be decrypted, so signatures cannot be "
                    "checked. Was BETTER_AUTH_SECRET changed? Name the one before in "
                    "BETTER_AUTH_SECRET_PREVIOUS"
                )
        if reply.state == "unreadable":
            # What was known is still what PostHog signs with.
            return
        self._current = {**self._configured, **_keys(reply.secret)}
        self._previous = _keys(reply.previous)
        until = reply.previous_until
        self._previous_until = until.timestamp() if until else math.inf


def _keys(secret: str | None) -> dict[str, Webhook]:
    return {key_id(secret): Webhook(key_of(secret))} if secret else {}

"""Secrets of deliveries: the operator's own, else one that is generated and stored sealed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol, Self

from hogsend.contract.credentials import DerivedPayload, DerivedReply

PREVIOUS_SECONDS = 24 * 3600.0
"""How long the previous secret is accepted after a rotation. PostHog stops retrying a delivery long
before."""

Clock = Callable[[], datetime]


class DerivedStore(Protocol):
    """Storage of the generated secrets, and of the project they belong to."""

    async def derived(self) -> DerivedReply:
        """Read the stored payload."""

    async def store_derived(self, payload: DerivedPayload) -> None:
        """Replace the stored payload as a whole.

        Raises:
            GrantReplaced: the stored grant is another one now.
        """


class MintedSecrets:
    """Common base of the webhook secret and the signing key."""

    def __init__(
        self,
        credentials: DerivedStore,
        configured: str | None,
        *,
        minting: bool,
        now: Clock = lambda: datetime.now(UTC),
    ) -> None:
        """Use the operator's secret, or a generated one.

        Args:
            credentials: storage of the generated secret.
            configured: the operator's secret, from the setting.
            minting: whether a secret may be generated.
            now: the clock.
        """
        self._credentials = credentials
        self._configured = configured
        self._minting = minting
        self._now = now

    def with_store(self, credentials: DerivedStore) -> Self:
        """Return a copy that stores generated secrets in `credentials`."""
        return type(self)(credentials, self._configured, minting=self._minting, now=self._now)

    @property
    def configured(self) -> str | None:
        """The operator's secret, which takes precedence over a generated one."""
        return self._configured

    def _previous_until(self) -> datetime:
        return self._now() + timedelta(seconds=PREVIOUS_SECONDS)

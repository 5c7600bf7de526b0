"""A secret that PostHog is given: the operator's own, else one that is minted and stored sealed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol, Self

from hogsend.contract.credentials import DerivedPayload, DerivedReply

PREVIOUS_SECONDS = 24 * 3600.0
"""How long the one before counts beside a new one: far longer than PostHog repeats a delivery."""

Clock = Callable[[], datetime]


class DerivedStore(Protocol):
    """Where minted secrets are, with the project they belong to."""

    async def derived(self) -> DerivedReply:
        """Read them."""

    async def store_derived(self, payload: DerivedPayload) -> None:
        """Replace them, as a whole.

        Raises:
            GrantReplaced: they belong to another grant now.
        """


class MintedSecrets:
    """What secrets of both kinds, the webhook secret and the signing key, work with."""

    def __init__(
        self,
        credentials: DerivedStore,
        configured: str | None,
        *,
        minting: bool,
        now: Clock = lambda: datetime.now(UTC),
    ) -> None:
        """Take the operator's secret, or find one.

        Args:
            credentials: where a minted one is stored.
            configured: the operator's, from the setting.
            minting: whether one may be minted.
            now: gives the time of day.
        """
        self._credentials = credentials
        self._configured = configured
        self._minting = minting
        self._now = now

    def kept_in(self, credentials: DerivedStore) -> Self:
        """Give the same, with what is minted stored in `credentials`."""
        return type(self)(credentials, self._configured, minting=self._minting, now=self._now)

    @property
    def configured(self) -> str | None:
        """The operator's secret, which takes precedence over a minted one."""
        return self._configured

    def _end_of_previous(self) -> datetime:
        return self._now() + timedelta(seconds=PREVIOUS_SECONDS)

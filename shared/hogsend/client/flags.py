"""PostHog's feature flags."""

from __future__ import annotations

from typing import Any

from hogsend.client.arguments import bag, text
from hogsend.client.degradation import answered_without
from hogsend.contract.errors import Unavailable
from hogsend.contract.flags import ANALYTICS_FLAGS, Flags, GetFlags
from hogsend.transport.connection import Connection


class FlagsClient:
    """PostHog's feature flags; made by `Client.flags`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def get(self, key: str, distinct_id: str, **about: Any) -> bool | str | None:
        """Value of one flag for a person; None when PostHog says nothing about it.

        Args:
            key: the flag.
            distinct_id: the person.
            about: `groups`, `person_properties`, `group_properties` that PostHog may not know yet.

        Raises:
            InvalidRequest: something about the person is not as it must be.
            Forbidden: this NATS user may not evaluate flags.
        """
        request = GetFlags(distinct_id=distinct_id, keys=[text("key", key)], **_bags(about))
        return (await self._evaluate(request)).values.get(key)

    async def all(self, distinct_id: str, **about: Any) -> dict[str, bool | str]:
        """Values of all flags for a person, by key; raises and takes the same as `get`."""
        return (await self._evaluate(GetFlags(distinct_id=distinct_id, **_bags(about)))).values

    async def _evaluate(self, request: GetFlags) -> Flags:
        try:
            return await self._connection.request(ANALYTICS_FLAGS, request)
        except Unavailable as error:
            answered_without("flags", error)
            return Flags()


def _bags(about: dict[str, Any]) -> dict[str, Any]:
    return {name: bag(name, value) for name, value in about.items()}

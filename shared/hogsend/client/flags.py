"""PostHog's feature flags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hogsend.client.arguments import checked_mapping, checked_text
from hogsend.client.degradation import log_degraded_read
from hogsend.contract.errors import InvalidRequest, TooLarge, Unavailable
from hogsend.contract.flags import ANALYTICS_FLAGS, Flags, GetFlags
from hogsend.transport.connection import Connection


class FlagsClient:
    """Evaluates PostHog's feature flags; an attribute of `Client`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def get(
        self,
        key: str,
        distinct_id: str,
        *,
        groups: Mapping[str, str] | None = None,
        person_properties: Mapping[str, Any] | None = None,
        group_properties: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> bool | str | None:
        """Return the value of one flag for a person; None when PostHog does not return it.

        Args:
            key: the flag.
            distinct_id: the person.
            groups: keys of the person's groups, by group type.
            person_properties: properties that PostHog may not have stored yet.
            group_properties: the same for groups, by group type.

        Raises:
            InvalidRequest: an argument is not valid, or all of them are too large for a request.
            Forbidden: this NATS user may not evaluate flags.
        """
        request = GetFlags(
            distinct_id=distinct_id,
            keys=[checked_text("key", key)],
            groups=checked_mapping("groups", groups),
            person_properties=checked_mapping("person_properties", person_properties),
            group_properties=checked_mapping("group_properties", group_properties),
        )
        return (await self._evaluate(request)).values.get(key)

    async def all(
        self,
        distinct_id: str,
        *,
        groups: Mapping[str, str] | None = None,
        person_properties: Mapping[str, Any] | None = None,
        group_properties: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> dict[str, bool | str]:
        """Return the values of all flags for a person by key; arguments and errors as in `get`."""
        request = GetFlags(
            distinct_id=distinct_id,
            groups=checked_mapping("groups", groups),
            person_properties=checked_mapping("person_properties", person_properties),
            group_properties=checked_mapping("group_properties", group_properties),
        )
        return (await self._evaluate(request)).values

    async def _evaluate(self, request: GetFlags) -> Flags:
        try:
            return await self._connection.request(ANALYTICS_FLAGS, request)
        except Unavailable as error:
            log_degraded_read("flags", error)
            return Flags()
        except TooLarge as error:
            raise InvalidRequest(str(error)) from error

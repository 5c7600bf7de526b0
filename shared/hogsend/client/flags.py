"""PostHog's feature flags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hogsend.client.arguments import bag, text
from hogsend.client.degradation import answered_without
from hogsend.contract.errors import InvalidRequest, TooLarge, Unavailable
from hogsend.contract.flags import ANALYTICS_FLAGS, Flags, GetFlags
from hogsend.transport.connection import Connection


class FlagsClient:
    """PostHog's feature flags; made by `Client.flags`."""

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
        """Value of one flag for a person; None when PostHog says nothing about it.

        Args:
            key: the flag.
            distinct_id: the person.
            groups: keys of the person's groups, by group type.
            person_properties: properties that PostHog may not know yet.
            group_properties: the same of groups, by group type.

        Raises:
            InvalidRequest: something about the person is not as it must be, or all of it is too
                much for a request.
            Forbidden: this NATS user may not evaluate flags.
        """
        request = GetFlags(
            distinct_id=distinct_id,
            keys=[text("key", key)],
            groups=bag("groups", groups),
            person_properties=bag("person_properties", person_properties),
            group_properties=bag("group_properties", group_properties),
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
        """Values of all flags for a person, by key; raises and takes the same as `get`."""
        request = GetFlags(
            distinct_id=distinct_id,
            groups=bag("groups", groups),
            person_properties=bag("person_properties", person_properties),
            group_properties=bag("group_properties", group_properties),
        )
        return (await self._evaluate(request)).values

    async def _evaluate(self, request: GetFlags) -> Flags:
        try:
            return await self._connection.request(ANALYTICS_FLAGS, request)
        except Unavailable as error:
            answered_without("flags", error)
            return Flags()
        except TooLarge as error:
            raise InvalidRequest(str(error)) from error

"""PostHog's persons: read and write their properties, and where they live."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from hogsend.client.arguments import bag, moment, several
from hogsend.client.degradation import answered_without
from hogsend.client.writer import Writer
from hogsend.contract import subjects
from hogsend.contract.base import Properties
from hogsend.contract.errors import TooLarge, Unavailable
from hogsend.contract.identity import contact_user_id
from hogsend.contract.persons import ANALYTICS_PERSON, Alias, GetPerson, SetPerson
from hogsend.transport.connection import Connection


class PersonsClient:
    """PostHog's persons; made by `Client.persons`."""

    def __init__(self, connection: Connection, writer: Writer) -> None:
        self._connection = connection
        self._writer = writer

    async def get(self, distinct_id: str) -> Properties:
        """Properties of a person; empty when there is none, or it cannot be read now.

        It cannot be read either where it has more properties than `max_payload` of NATS takes.
        There is none with an id that programs write for no person (`undefined`,
        `[object Object]`).

        Raises:
            InvalidRequest: `distinct_id` is blank or longer than 200 characters.
            Forbidden: this NATS user may not read persons.
        """
        try:
            person = await self._connection.request(ANALYTICS_PERSON, GetPerson(distinct_id))
        except TooLarge:
            reason = "the person has more properties than NATS takes; raise its max_payload"
            answered_without("persons.get", TooLarge(reason))
            return {}
        except Unavailable as error:
            answered_without("persons.get", error)
            return {}
        return person.properties

    async def set(
        self,
        distinct_id: str,
        properties: Mapping[str, Any] | None = None,
        *,
        once: Mapping[str, Any] | None = None,
        unset: Sequence[str] = (),
        id: UUID | None = None,
        timestamp: datetime | None = None,
    ) -> None:
        """Change a person: set properties, set those that have no value yet, remove some.

        Nothing given, nothing sent; without a project key nothing happens, silently. Nor does it
        for an id that programs write for no person (`undefined`, `[object Object]`).

        Raises:
            InvalidRequest: the bag is no JSON, or the id is blank or too long.
            Unavailable: NATS is unavailable; nothing was accepted.
        """
        if not (properties or once or unset):
            return
        message = SetPerson(
            id=id or uuid4(),
            distinct_id=distinct_id,
            set=bag("properties", properties),
            set_once=bag("once", once),
            unset=several("unset", unset),
            timestamp=moment(timestamp or datetime.now(UTC)),
        )
        await self._writer.write(subjects.persons("set"), str(message.id), message)

    async def alias(self, distinct_id: str, anonymous_id: str) -> None:
        """Let `anonymous_id` belong to the person `distinct_id`.

        Nothing is merged when one is blank, or is what programs write for no person (`undefined`,
        `[object Object]`).

        Raises:
            InvalidRequest: one is no text, or longer than 200 characters.
            Unavailable: NATS is unavailable; nothing was accepted.
        """
        if _is_placeholder(distinct_id) or _is_placeholder(anonymous_id):
            return
        if distinct_id == anonymous_id:
            return
        message = Alias(
            id=uuid4(),
            distinct_id=distinct_id,
            alias=anonymous_id,
            timestamp=datetime.now(UTC),
        )
        await self._writer.write(subjects.persons("alias"), str(message.id), message)


def _is_placeholder(id: object) -> bool:
    return not id or (isinstance(id, str) and contact_user_id(id) is None)

"""What services do with PostHog over the bus: read and write persons, capture, flags, engagement.

Reads never raise because something is away or not configured: they give what is known without it.
Writes return once they are durable; what PostHog is told then survives its being away.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import msgspec

from hogsend.contract import subjects
from hogsend.contract.base import Message, Properties
from hogsend.contract.conditions import (
    ANALYTICS_CONDITIONS,
    Condition,
    ConditionQuery,
    EvaluateConditions,
)
from hogsend.contract.engagement import CATALOG, Engagement
from hogsend.contract.errors import InvalidRequest, Unavailable
from hogsend.contract.flags import ANALYTICS_FLAGS, Flags, GetFlags
from hogsend.contract.headers import message_headers
from hogsend.contract.persons import (
    ANALYTICS_PERSON,
    ANALYTICS_TIMEZONE,
    Alias,
    Capture,
    GetPerson,
    GetTimezone,
    SetPerson,
    Timezone,
)
from hogsend.contract.streams import StreamName
from hogsend.transport.publisher import Outgoing

if TYPE_CHECKING:
    from hogsend.transport.connection import Bus

log = logging.getLogger(__name__)

UTC_ZONE = "UTC"


class PersonsClient:
    """PostHog's persons; made by `Bus.persons`."""

    def __init__(self, bus: Bus) -> None:
        """Ask and publish on `bus`."""
        self._bus = bus

    async def get(self, distinct_id: str) -> Properties:
        """Properties of a person; empty when there is none, or it cannot be read now.

        Raises:
            InvalidRequest: `distinct_id` is blank or longer than 200 characters.
            Forbidden: this NATS user may not read persons.
        """
        try:
            person = await self._bus.request(ANALYTICS_PERSON, GetPerson(distinct_id))
        except Unavailable as error:
            _missed("persons.get", error)
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

        Nothing given, nothing sent; without a project key nothing happens, silently.

        Raises:
            InvalidRequest: the bag is no JSON, or the id is blank or too long.
            Unavailable: the bus is away; nothing was accepted.
        """
        if not (properties or once or unset):
            return
        message = SetPerson(
            id=id or uuid4(),
            distinct_id=distinct_id,
            set=dict(properties or {}),
            set_once=dict(once or {}),
            unset=list(unset),
            timestamp=timestamp or datetime.now(UTC),
        )
        await _publish(
            self._bus, StreamName.PERSONS, subjects.persons("set"), str(message.id), message
        )

    async def alias(self, distinct_id: str, anonymous_id: str) -> None:
        """Let `anonymous_id` belong to the person `distinct_id`; nothing when one is blank.

        Raises:
            Unavailable: the bus is away; nothing was accepted.
        """
        if not distinct_id or not anonymous_id or distinct_id == anonymous_id:
            return
        message = Alias(distinct_id=distinct_id, alias=anonymous_id, timestamp=datetime.now(UTC))
        await _publish(
            self._bus, StreamName.PERSONS, subjects.persons("alias"), str(message.id), message
        )


class FlagsClient:
    """PostHog's feature flags; made by `Bus.flags`."""

    def __init__(self, bus: Bus) -> None:
        """Ask on `bus`."""
        self._bus = bus

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
        request = GetFlags(distinct_id=distinct_id, keys=[key], **about)
        return (await self._evaluate(request)).values.get(key)

    async def all(self, distinct_id: str, **about: Any) -> dict[str, bool | str]:
        """Values of all flags for a person, by key; raises and takes the same as `get`."""
        return (await self._evaluate(GetFlags(distinct_id=distinct_id, **about))).values

    async def _evaluate(self, request: GetFlags) -> Flags:
        try:
            return await self._bus.request(ANALYTICS_FLAGS, request)
        except Unavailable as error:
            _missed("flags", error)
            return Flags()


class EngagementClient:
    """What services did with people; made by `Bus.engagement`."""

    def __init__(self, bus: Bus) -> None:
        """Publish on `bus`."""
        self._bus = bus

    async def report(
        self,
        type: str,
        data: Mapping[str, Any],
        *,
        id: str | None = None,
        timestamp: datetime | None = None,
    ) -> str:
        """Report, for example, that an email was opened: recorded here, sent to destinations.

        Args:
            type: one of `hogsend.contract.engagement.CATALOG`.
            data: what happened, and with whom (`userId`, `to`, …).
            id: the same for every repetition of one and the same thing; made up by default.
            timestamp: when it happened; now by default.

        Returns:
            The id.

        Raises:
            InvalidRequest: there is no such type, or the data is no JSON.
            Unavailable: the bus is away; nothing was accepted.
        """
        if type not in CATALOG:
            raise InvalidRequest(f"there is no engagement type {type!r}; see docs/engagement.md")
        message = Engagement(
            id=id or f"msg_{uuid4()}",
            type=type,
            timestamp=timestamp or datetime.now(UTC),
            data=dict(data),
        )
        await _publish(
            self._bus, StreamName.ENGAGEMENT, subjects.engagement(type), message.id, message
        )
        return message.id


async def capture(bus: Bus, message: Capture) -> None:
    """Queue one event for PostHog; see `Bus.capture`."""
    await _publish(bus, StreamName.PERSONS, subjects.persons("capture"), str(message.id), message)


async def timezone(
    bus: Bus, distinct_id: str, *, explicit: str | None, default: str | None
) -> Timezone:
    """Find a time zone; see `Bus.timezone`."""
    try:
        return await bus.request(ANALYTICS_TIMEZONE, GetTimezone(distinct_id, explicit, default))
    except Unavailable as error:
        _missed("timezone", error)
        if explicit:
            raise
        return Timezone(default or UTC_ZONE, "default" if default else "fallback")


async def conditions_met(
    bus: Bus, people: Sequence[str], conditions: Sequence[Condition]
) -> list[bool]:
    """Evaluate conditions; see `Bus.conditions_met`."""
    queries = [ConditionQuery(person, list(conditions)) for person in people]
    return (await bus.request(ANALYTICS_CONDITIONS, EvaluateConditions(queries))).results


async def _publish(bus: Bus, stream: StreamName, subject: str, id: str, message: Message) -> None:
    try:
        body = msgspec.json.encode(message)
        # Constraints count where messages are read; whoever writes should hear of them here.
        msgspec.json.decode(body, type=type(message))
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(str(error)) from error
    kind = type(message).__name__.lower()
    headers = message_headers(id=id, source="service", type=kind, time=datetime.now(UTC))
    if not await bus.group(stream).publish(Outgoing(subject, body, headers)):
        raise InvalidRequest(f"{len(body)} bytes are more than the bus takes")


def _missed(what: str, error: Unavailable) -> None:
    # Not our services' logs and metrics: this runs in other people's processes.
    log.warning("%s answered without PostHog: %s", what, error)

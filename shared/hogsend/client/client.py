"""Hogsend on the bus, for other people's services: `hogsend.connect()` gives a `Client`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar, overload
from uuid import UUID, uuid4
from weakref import WeakSet

import msgspec

from hogsend.client.address import Tls, connection_to
from hogsend.client.arguments import bag, moment, several
from hogsend.client.decoding import Decoder, TypedEvent, Undecodable, typed_event
from hogsend.client.degradation import answered_without
from hogsend.client.engagement import EngagementClient
from hogsend.client.first_connection import ConnectionLog, open_within
from hogsend.client.flags import FlagsClient
from hogsend.client.local_time import Weekday, next_moment
from hogsend.client.persons import PersonsClient
from hogsend.client.subscriptions import CredentialChanges, Events, Names
from hogsend.client.writer import Writer
from hogsend.contract import subjects
from hogsend.contract.base import Empty
from hogsend.contract.capabilities import ANALYTICS_CAPABILITIES
from hogsend.contract.conditions import (
    ANALYTICS_CONDITIONS,
    MAX_QUERIES,
    Condition,
    ConditionQuery,
    EvaluateConditions,
)
from hogsend.contract.errors import InvalidRequest, TooLarge, Unavailable
from hogsend.contract.events import Event
from hogsend.contract.persons import (
    ANALYTICS_TIMEZONE,
    Capture,
    GetTimezone,
    Timezone,
)
from hogsend.contract.timezones import explicit_timezone, find_timezone
from hogsend.transport.background import run_in_background
from hogsend.transport.connection import Connection

UTC_ZONE = "UTC"

P = TypeVar("P")
"""What the properties of events are decoded into."""

L = TypeVar("L", Events[Any], CredentialChanges)

log = logging.getLogger(__name__)


class Moment(msgspec.Struct, frozen=True):
    """A moment where a person lives."""

    at: datetime
    """With the offset of that time zone."""
    timezone: str
    source: str
    """How the time zone is known: a `TimezoneSource`, or one of a later version."""


class PostHog:
    """PostHog with a project key; made by `Client.posthog`."""

    def __init__(self, client: Client) -> None:
        self.capture = client.capture
        """As `Client.capture`."""
        self.flags = client.flags
        """As `Client.flags`."""


class Client:
    """Everything a service does with Hogsend, over one connection.

    Reads never raise because PostHog or a service cannot be reached: they give what is known
    without it. Writes return once they are durable, and reach PostHog later if it is down.
    """

    def __init__(self, connection: Connection) -> None:
        """Work on `connection`, which may connect later."""
        self.connection = connection
        self._writer = Writer(connection)
        self.persons = PersonsClient(connection, self._writer)
        """PostHog's persons: read and write their properties."""
        self.flags = FlagsClient(connection)
        """PostHog's feature flags."""
        self.engagement = EngagementClient(self._writer)
        """Reports what services did with people."""
        self._loops = WeakSet[Events[Any] | CredentialChanges]()
        self._stopped = False

    @overload
    def events(
        self,
        names: Names = None,
        *,
        durable: str | None = None,
        type: None = None,
        undecodable: Undecodable | None = None,
    ) -> Events[Event]: ...
    @overload
    def events(
        self,
        names: Names = None,
        *,
        durable: str | None = None,
        type: type[P],
        undecodable: Undecodable | None = None,
    ) -> Events[TypedEvent[P]]: ...
    # A union of types, which mypy does not take for a type.
    @overload
    def events(
        self,
        names: Names = None,
        *,
        durable: str | None = None,
        type: Any,
        undecodable: Undecodable | None = None,
    ) -> Events[TypedEvent[Any]]: ...
    def events(
        self,
        names: Names = None,
        *,
        durable: str | None = None,
        type: type[Any] | None = None,
        undecodable: Undecodable | None = None,
    ) -> Events[Any]:
        """Normalized events, of one name, several or all, as an async iterator.

        With `durable` the position is kept under that name and shared by all replicas that use it,
        and an event counts as done once the loop asks for the next one, however long that takes;
        without it only events from now on are seen, those included that come while NATS cannot be
        reached. Waiting for the next one may be cut short, by `asyncio.timeout` for example, and
        taken up again. The loop ends when the client is stopped or closed.

        An iterator is one task's: another task's call would say that the event in hand is done.
        Give each task an iterator of its own; those with the same durable share its events. A call
        while another one waits raises `RuntimeError`.

        A durable belongs to its names: asked for others, the loop raises `ConsumerConflict` before
        anything is read, and the durable stays as it is. So it does for one that was made elsewhere
        and is not acknowledged explicitly.

        With `type` each event is a `TypedEvent` whose properties are of that type: a msgspec
        Struct, a dataclass, a TypedDict, or whatever else msgspec decodes. Unknown properties are
        left out. An event of another shape raises `CannotDecode`, which has all of it; the loop
        can be taken up again, and goes on with the next event. So that it need not be, give
        `undecodable`: it is called with the error, may wait, and the event counts as done when it
        has returned. What it raises ends the loop; taken up again, that calls it again.

        Raises:
            InvalidRequest: a name is empty or a pattern, the durable's name is none, or nothing
                can be decoded into `type`.
        """
        decoder = Decoder[Any](Event if type is None else typed_event(type))
        return self._loop(Events(self.connection, names, durable, decoder, undecodable))

    def credential_changes(self, provider: str | None = None) -> CredentialChanges:
        """Credential changes, of one provider or all: the current state first, then changes.

        After a broken connection the last change is handed out unless it was before; earlier ones
        that came meanwhile may be left out. Waiting for the next one may be cut short. The loop
        ends when the client is stopped or closed. An iterator is one task's, as with `events`.
        """
        return self._loop(CredentialChanges(self.connection, provider))

    def stop(self) -> None:
        """Let every loop over events and credential changes end, for a shutdown without a repeat.

        A loop that waits ends now. One that works on an event ends when it asks for the next one,
        which says that the event is done; what came for it meanwhile is given to others. Everything
        else goes on: the connection is closed by leaving the block of `connect`.

        To be called in the event loop's thread, as `loop.add_signal_handler(SIGTERM, client.stop)`
        does.
        """
        self._stopped = True
        for one in list(self._loops):
            one.stop()

    async def capture(
        self,
        event: str,
        distinct_id: str,
        properties: Mapping[str, Any] | None = None,
        *,
        groups: Mapping[str, str] | None = None,
        id: UUID | None = None,
        timestamp: datetime | None = None,
    ) -> None:
        """Capture an event in PostHog; it is durable when this returns.

        Without a project key nothing happens, silently.

        Args:
            event: its name.
            distinct_id: the person it belongs to.
            properties: anything that is JSON.
            groups: group keys by group type.
            id: the event's uuid; a new one by default.
            timestamp: when it happened; now by default.

        Raises:
            InvalidRequest: a name is blank or too long, or the properties are no JSON.
            Unavailable: the bus cannot be reached; nothing was accepted.
        """
        message = Capture(
            id=id or uuid4(),
            event=event,
            distinct_id=distinct_id,
            properties=bag("properties", properties),
            groups=bag("groups", groups),
            timestamp=moment(timestamp or datetime.now(UTC)),
        )
        await self._writer.write(subjects.persons("capture"), str(message.id), message)

    async def timezone(
        self, distinct_id: str, *, explicit: str | None = None, default: str | None = None
    ) -> Timezone:
        """Give a person's time zone, as far as it is known, and how it is known (contract 4.2).

        `hogsend.next_moment` makes a moment of it.

        Args:
            distinct_id: the person.
            explicit: wins over everything known; no service is asked then.
            default: stands in for `DEFAULT_TIMEZONE`; one that is none does not count.

        Raises:
            InvalidRequest: `explicit` is no IANA time zone.
        """
        if explicit is not None:
            return explicit_timezone(explicit)
        request = GetTimezone(distinct_id, default=default)
        try:
            return await self.connection.request(ANALYTICS_TIMEZONE, request)
        except Unavailable as error:
            answered_without("timezone", error)
            zone = find_timezone(default)
            return Timezone(zone, "default") if zone else Timezone(UTC_ZONE, "fallback")

    async def when(
        self,
        distinct_id: str,
        *,
        hour: int,
        minute: int = 0,
        weekday: Weekday | None = None,
        after: datetime | None = None,
        explicit: str | None = None,
        default: str | None = None,
    ) -> Moment:
        """Give the next `hour:minute`, on `weekday` or any day, where a person lives.

        `timezone` and `next_moment` in one; see both for the arguments.

        Raises:
            InvalidRequest: there is no such time, weekday or time zone, `after` has no offset, or
                the moment lies outside of the years 1 to 9999.
        """
        zone = await self.timezone(distinct_id, explicit=explicit, default=default)
        try:
            at = next_moment(zone.timezone, hour=hour, minute=minute, weekday=weekday, after=after)
        except (ValueError, TypeError) as error:
            raise InvalidRequest(str(error)) from error
        return Moment(at, zone.timezone, zone.source)

    async def posthog(self) -> PostHog | None:
        """Give PostHog's capture and feature flags, or None without a project key.

        While that is not known, it is given: what is captured then is kept, and flags are unknown.

        Raises:
            Forbidden: this NATS user may not ask; `app.env` has the one that may.
        """
        try:
            answer = await self.connection.request(ANALYTICS_CAPABILITIES, Empty())
        except Unavailable as error:
            answered_without("posthog", error)
            return PostHog(self)
        states = {one.name: one.state for one in answer.capabilities}
        return None if states.get("eventCapture") == "off" else PostHog(self)

    async def conditions_met(
        self, people: Sequence[str], conditions: Sequence[Condition]
    ) -> list[bool]:
        """Whether all property conditions hold, for each person (contract 4.3).

        More people than one request takes are asked for in several, one after the other.

        Raises:
            InvalidRequest: a condition cannot be evaluated as it is, or conditions are too large.
            Unavailable: analytics cannot be reached, or ingest to look at a contact; there is no
                safe guess.
        """
        wanted = several("conditions", conditions)
        return await self._met([ConditionQuery(one, wanted) for one in several("people", people)])

    def _loop(self, loop: L) -> L:
        self._loops.add(loop)
        if self._stopped:
            loop.stop()
        return loop

    async def _met(self, queries: Sequence[ConditionQuery]) -> list[bool]:
        if len(queries) <= MAX_QUERIES:
            request = EvaluateConditions(list(queries))
            try:
                return (await self.connection.request(ANALYTICS_CONDITIONS, request)).results
            except TooLarge as error:
                if len(queries) < 2:  # noqa: PLR2004 - one has no halves
                    raise InvalidRequest(str(error)) from error
        middle = len(queries) // 2
        return await self._met(queries[:middle]) + await self._met(queries[middle:])


@asynccontextmanager
async def connect(
    url: str | None = None,
    *,
    user: str = "subscriber",
    tls: Tls = None,
    wait: float = 10.0,
) -> AsyncIterator[Client]:
    """Connect a service to Hogsend's bus for the length of a `with` block.

    Connection changes, errors of NATS, and why events cannot be read while that is tried again are
    logged on the logger `hogsend.client.client`.

    Args:
        url: NATS address, credentials included; `NATS_URL` from the environment by default.
        user: name this service is known by when the address does not carry one.
        tls: insist on TLS in this way; by default with the files that `NATS_TLS_CA`,
            `NATS_TLS_CERT` and `NATS_TLS_KEY` name, if any. False takes none of these files.
        wait: seconds to wait for the first connection.

    Raises:
        InvalidRequest: an address, or one of the files for TLS, is not valid.
        Forbidden: NATS refused the user or the password in the address.
        Unavailable: nothing answered at that address in time, or a server that is too old.
    """
    events = ConnectionLog(log)
    connection = connection_to(url, user=user, tls=tls, observer=events)
    try:
        await open_within(wait, connection, events)
        yield Client(connection)
    finally:
        # anyio's scopes cancel again at every await: then it goes on by itself.
        await asyncio.shield(run_in_background(connection.close()))

"""The client for other people's services; `hogsend.connect()` returns one."""

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
from hogsend.client.arguments import checked_list, checked_mapping, sendable_time
from hogsend.client.decoding import Decoder, TypedEvent, Undecodable, typed_event
from hogsend.client.degradation import log_degraded_read
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
"""Type that the properties of events are decoded into."""

Iterator = TypeVar("Iterator", Events[Any], CredentialChanges)

log = logging.getLogger(__name__)


class Moment(msgspec.Struct, frozen=True):
    """A moment in a person's time zone."""

    at: datetime
    """With the offset of that time zone."""
    timezone: str
    source: str
    """Where the time zone is known from: a `TimezoneSource`, or a value of a later version."""


class PostHog:
    """Capture and feature flags of PostHog; returned by `Client.posthog`."""

    def __init__(self, client: Client) -> None:
        self.capture = client.capture
        """As `Client.capture`."""
        self.flags = client.flags
        """As `Client.flags`."""


class Client:
    """Everything a service does with Hogsend, over one connection.

    Reads do not raise when PostHog or a service cannot be reached: they return what is known
    without it. Writes return once they are durable, and reach PostHog later if it is down.
    """

    def __init__(self, connection: Connection) -> None:
        """Use `connection`, which may connect later."""
        self.connection = connection
        self._writer = Writer(connection)
        self.persons = PersonsClient(connection, self._writer)
        """Reads and writes properties of PostHog's persons."""
        self.flags = FlagsClient(connection)
        """Evaluates PostHog's feature flags."""
        self.engagement = EngagementClient(self._writer)
        """Reports what services did with people."""
        self._iterators = WeakSet[Events[Any] | CredentialChanges]()
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
    # For a union of types, which mypy does not accept as a `type`.
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
        """Return an async iterator over normalized events, of one name, several or all.

        With `durable`, the position is stored under that name and shared by all replicas that use
        it. An event counts as done once the loop requests the next one, however long that takes.
        Without it, only events from now on are received, including those that are published while
        NATS cannot be reached. A wait for the next event may be cancelled, for example by
        `asyncio.timeout`, and repeated. The loop ends when the client is stopped or closed.

        An iterator belongs to one task: a call from another task would mark the current event as
        done. Create an iterator for each task; those with the same durable share its events. A call
        while another one waits raises `RuntimeError`.

        A durable belongs to its event names. With other names the loop raises `ConsumerConflict`
        before it reads anything, and the durable does not change. It also raises that error for a
        durable of another program whose acknowledgement policy is not explicit.

        With `type`, each event is a `TypedEvent` whose properties are of that type: a msgspec
        Struct, a dataclass, a TypedDict, or anything else that msgspec decodes. Properties that the
        type does not have are dropped. An event that does not match raises `CannotDecode`, which
        contains the whole event. The loop can be started again, and continues with the next event.
        With `undecodable`, that function is called with the error instead, and the event counts as
        done when it has returned. It may be async. An error that it raises ends the loop; when the
        loop is started again, the function is called for the same event again.

        Raises:
            InvalidRequest: a name is empty or a pattern, the durable name is not valid, or nothing
                can be decoded into `type`.
        """
        decoder = Decoder[Any](Event if type is None else typed_event(type))
        return self._track(Events(self.connection, names, durable, decoder, undecodable))

    def credential_changes(self, provider: str | None = None) -> CredentialChanges:
        """Return an async iterator over credential changes, of one provider or all.

        It starts with the last change of each provider, which is the current state. After a broken
        connection it continues with the last change, unless that was returned before; earlier
        changes may be skipped. A wait for the next one may be cancelled and repeated. The loop ends
        when the client is stopped or closed. An iterator belongs to one task, as with `events`.
        """
        return self._track(CredentialChanges(self.connection, provider))

    def stop(self) -> None:
        """End every loop over events and credential changes, for a shutdown without repeats.

        A loop that waits ends now. A loop that handles an event ends when it requests the next one,
        which marks the event as done. Events that have arrived for it meanwhile are released to
        other replicas. Everything else continues: the end of the `connect` block closes the
        connection.

        Call it in the event loop's thread, as `loop.add_signal_handler(SIGTERM, client.stop)` does.
        """
        self._stopped = True
        for iterator in list(self._iterators):
            iterator.stop()

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
        """Capture an event in PostHog. It is durable when this returns.

        Without a project key the event is dropped without an error.

        Args:
            event: its name.
            distinct_id: the person it belongs to.
            properties: anything that can be encoded as JSON.
            groups: group keys by group type.
            id: the event's uuid; a new one by default.
            timestamp: when it happened; now by default.

        Raises:
            InvalidRequest: a name is blank or too long, or the properties cannot be encoded as
                JSON.
            Unavailable: NATS cannot be reached; nothing was accepted.
        """
        message = Capture(
            id=id or uuid4(),
            event=event,
            distinct_id=distinct_id,
            properties=checked_mapping("properties", properties),
            groups=checked_mapping("groups", groups),
            timestamp=sendable_time(timestamp or datetime.now(UTC)),
        )
        await self._writer.write(subjects.persons("capture"), str(message.id), message)

    async def timezone(
        self, distinct_id: str, *, explicit: str | None = None, default: str | None = None
    ) -> Timezone:
        """Return a person's time zone, and where it is known from (contract 4.2).

        `hogsend.next_moment` computes a moment in it.

        Args:
            distinct_id: the person.
            explicit: takes precedence over every other source; no request is sent then.
            default: replaces the setting `DEFAULT_TIMEZONE`; ignored if it is not a time zone.

        Raises:
            InvalidRequest: `explicit` is not an IANA time zone.
        """
        if explicit is not None:
            return explicit_timezone(explicit)
        request = GetTimezone(distinct_id, default=default)
        try:
            return await self.connection.request(ANALYTICS_TIMEZONE, request)
        except Unavailable as error:
            log_degraded_read("timezone", error)
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
        """Return the next `hour:minute`, on `weekday` or any day, in a person's time zone.

        Combines `timezone` and `next_moment`, where the arguments are described.

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
        """Return PostHog's capture and feature flags, or None without a project key.

        While analytics cannot be reached, they are returned as well: captures are stored until
        PostHog can receive them, and flags are unknown.

        Raises:
            Forbidden: this NATS user may not send the request; the one in `app.env` may.
        """
        try:
            reply = await self.connection.request(ANALYTICS_CAPABILITIES, Empty())
        except Unavailable as error:
            log_degraded_read("posthog", error)
            return PostHog(self)
        states = {capability.name: capability.state for capability in reply.capabilities}
        return None if states.get("eventCapture") == "off" else PostHog(self)

    async def conditions_met(
        self, people: Sequence[str], conditions: Sequence[Condition]
    ) -> list[bool]:
        """Return for each person whether all property conditions hold (contract 4.3).

        More people than one request can hold are split over several, one after the other.

        Raises:
            InvalidRequest: a condition is not valid, or the conditions are too large.
            Unavailable: analytics cannot be reached, or ingest, which stores contacts. There is no
                safe default.
        """
        required = checked_list("conditions", conditions)
        queries = [ConditionQuery(person, required) for person in checked_list("people", people)]
        return await self._evaluate_conditions(queries)

    def _track(self, iterator: Iterator) -> Iterator:
        self._iterators.add(iterator)
        if self._stopped:
            iterator.stop()
        return iterator

    async def _evaluate_conditions(self, queries: Sequence[ConditionQuery]) -> list[bool]:
        if len(queries) <= MAX_QUERIES:
            request = EvaluateConditions(list(queries))
            try:
                return (await self.connection.request(ANALYTICS_CONDITIONS, request)).results
            except TooLarge as error:
                if len(queries) < 2:  # noqa: PLR2004 - one cannot be split
                    raise InvalidRequest(str(error)) from error
        middle = len(queries) // 2
        return await self._evaluate_conditions(queries[:middle]) + await self._evaluate_conditions(
            queries[middle:]
        )


@asynccontextmanager
async def connect(
    url: str | None = None,
    *,
    user: str = "subscriber",
    tls: Tls = None,
    wait: float = 10.0,
) -> AsyncIterator[Client]:
    """Connect a service to Hogsend's bus for the duration of an `async with` block.

    The logger `hogsend.client.client` gets connection changes, errors of NATS, and the reasons why
    events cannot be read while reading is retried.

    Args:
        url: NATS address, credentials included; `NATS_URL` from the environment by default.
        user: NATS user of this service when the address carries none.
        tls: require TLS with this context; by default with the files that `NATS_TLS_CA`,
            `NATS_TLS_CERT` and `NATS_TLS_KEY` name, if any. False ignores these files.
        wait: seconds to wait for the first connection.

    Raises:
        InvalidRequest: an address, or one of the files for TLS, is not valid.
        Forbidden: NATS refused the user or the password in the address.
        Unavailable: no server responded in time, or its version is not supported.
    """
    events = ConnectionLog(log)
    connection = connection_to(url, user=user, tls=tls, observer=events)
    try:
        await open_within(wait, connection, events)
        yield Client(connection)
    finally:
        # In a task: a cancelled scope of anyio cancels at every await, also during the close.
        await asyncio.shield(run_in_background(connection.close()))

"""Consumers of EVENTS during a replay: the durable reads its copies, and no other consumer does.

While there are copies, their subject is one of the durable's filters. A consumer whose filter
matches any subject of the stream would receive the copies, too. Its filter is replaced by the names
of the subjects without copies, and stays so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from nats.js import errors as js_errors
from nats.js.api import ConsumerInfo

from hogsend.contract import subjects
from hogsend.contract.consumers import API, OWN_API, reserved
from hogsend.contract.errors import InvalidRequest, NotFound, Unavailable
from hogsend.contract.streams import StreamName
from hogsend.transport.connection import Connection
from hogsend.transport.jetstream import MANAGEMENT_SECONDS
from hogsend.transport.jetstream_error import JetStreamError
from hogsend.transport.own_consumer import list_consumers
from services.ingest.jetstream_errors import available
from services.ingest.replay.filters import filters_of, set_filters, without_copies
from services.ingest.stored_messages import delete_message, read_batch
from services.ingest.stream_state import stream_state


class _Reply(msgspec.Struct, frozen=True):
    config: dict[str, Any] = {}
    error: JetStreamError | None = None


class Copies(NamedTuple):
    """The copies in the stream."""

    counts: Mapping[str, int]
    """Number of copies by subject."""
    last: int
    """Sequence of the last message in the stream."""


class ReplayConsumers:
    """Reads and changes the filters of the consumers of EVENTS."""

    def __init__(self, link: Connection) -> None:
        self._link = link

    async def filters(self, durable: str) -> list[str]:
        """Return the filters of a durable, without those for copies.

        Raises:
            NotFound: the durable does not exist.
            InvalidRequest: the consumer is Hogsend's own, or not durable.
            Forbidden: NATS does not permit the request to this user, here and below.
            Unavailable: JetStream does not answer.
        """
        return _own_filters(_target(await self._list(), durable))

    async def open(self, durable: str) -> None:
        """Change filters so that the durable reads its copies, and no other consumer does.

        Raises:
            NotFound, Unavailable: as `filters`.
            InvalidRequest: as `filters`, or a consumer reads copies and nothing else.
        """
        consumers = await self._list()
        target = _target(consumers, durable)
        apart = {one.name: _without_copies(one) for one in consumers}
        for one in consumers:
            if one.name != durable and apart[one.name] != _own_filters(one):
                # A replay to this consumer may be open: it still reads its own copies.
                await self._set_filters(one.name, [*apart[one.name], *_copy_filters(one)])
        if (own := subjects.replay(durable)) not in (existing := _copy_filters(target)):
            await self._set_filters(durable, [*apart[durable], *existing, own])

    async def open_durables(self) -> dict[str, list[str]]:
        """Return the durables that read copies now, each with the subjects of its copies.

        Raises:
            Unavailable: JetStream does not answer.
        """
        consumers = await self._list()
        return {one.name: copies for one in consumers if (copies := _copy_filters(one))}

    async def close(self, durable: str) -> None:
        """Remove the filters for copies from a durable.

        Raises:
            NotFound, InvalidRequest, Unavailable: as `filters`.
        """
        # A durable that was created to read copies alone keeps its filter: without one it would
        # read everything.
        if filters := await self.filters(durable):
            await self._set_filters(durable, filters)

    async def copies(self) -> Copies:
        """Count the copies on each subject.

        Raises:
            Unavailable: JetStream does not answer.
        """
        state = await stream_state(self._link, StreamName.EVENTS, f"{subjects.REPLAYS}.*")
        return Copies(state.subjects or {}, state.last_seq)

    async def delete_acknowledged(self, durable: str) -> int:
        """Delete the copies that a durable has acknowledged.

        Returns:
            How many copies the durable has not acknowledged.

        Raises:
            Unavailable: JetStream does not answer.
        """
        with available(self._link):
            info = await self._link.refusals.wait_unless_refused(
                f"{API}.CONSUMER.INFO.{StreamName.EVENTS}.{durable}",
                self._link.js.consumer_info(StreamName.EVENTS, durable),
            )
            floor = info.ack_floor.stream_seq if info.ack_floor else 0
        own = _copy_filters(info)
        for subject in own:
            await self.delete_copies(subject, floor)
        counts = (await self.copies()).counts
        return sum(counts.get(subject, 0) for subject in own)

    async def delete_copies(self, subject: str, last: int) -> None:
        """Delete the copies on a subject, up to a sequence.

        Raises:
            Unavailable: JetStream does not answer.
        """
        # Deleted one by one, because of a bug in the purge of nats-server 2.11 and 2.12: a durable
        # with the purged subject among its filters skips to the end of the stream, past messages
        # that it has not read.
        stream, first = StreamName.EVENTS, 1
        while first <= last:
            batch = await read_batch(self._link, stream, first=first, subject=subject)
            done = [one.sequence for one in batch if one.sequence <= last]
            await asyncio.gather(*(delete_message(self._link, stream, one) for one in done))
            if not done or len(done) < len(batch):
                return
            first = done[-1] + 1

    async def _list(self) -> list[ConsumerInfo]:
        with available(self._link):
            try:
                return await self._link.refusals.wait_unless_refused(
                    f"{API}.CONSUMER.LIST.{StreamName.EVENTS}",
                    list_consumers(self._link.js, StreamName.EVENTS),
                )
            except js_errors.NotFoundError:
                raise NotFound("there is no stream of events yet") from None

    async def _set_filters(self, name: str, filters: Sequence[str]) -> None:
        with available(self._link):
            js = await self._link.js_for(StreamName.EVENTS)
            api = API if js is self._link.js else OWN_API
            # The raw configuration: nats-py would drop fields that it does not know.
            config = (await self._request(f"{api}.CONSUMER.INFO.{StreamName.EVENTS}.{name}")).config
            subject = f"{api}.CONSUMER.CREATE.{StreamName.EVENTS}.{name}"
            set_filters(config, filters)
            if len(filters) == 1:
                # The server checks that the last part is the filter.
                subject = f"{subject}.{filters[0]}"
            update = {"stream_name": StreamName.EVENTS, "config": config, "action": "update"}
            await self._request(subject, msgspec.json.encode(update))

    async def _request(self, subject: str, body: bytes = b"") -> _Reply:
        message = await self._link.request_raw(subject, body, seconds=MANAGEMENT_SECONDS)
        reply = msgspec.json.decode(message.data, type=_Reply)
        if reply.error is not None:
            raise Unavailable(f"JetStream refuses: {reply.error.description}")
        return reply


def _target(consumers: Sequence[ConsumerInfo], durable: str) -> ConsumerInfo:
    if durable in reserved(StreamName.EVENTS):
        raise InvalidRequest(
            f"{durable!r} is Hogsend's own consumer; events are not replayed to it"
        )
    for one in consumers:
        if one.name == durable:
            if not one.config.durable_name:
                raise InvalidRequest(f"the consumer {durable!r} is not durable")
            return one
    raise NotFound(
        f"there is no durable {durable!r} on {StreamName.EVENTS}: `hogsend consumers list` shows "
        "those there are, and a service makes its own when it subscribes"
    )


def _filter_fields(info: ConsumerInfo) -> dict[str, Any]:
    config = info.config
    return {"filter_subject": config.filter_subject, "filter_subjects": config.filter_subjects}


def _own_filters(info: ConsumerInfo) -> list[str]:
    """A consumer's filters, without those for its own copies."""
    own = subjects.replays_of(info.name)
    return [one for one in filters_of(_filter_fields(info)) if one not in own]


def _copy_filters(info: ConsumerInfo) -> list[str]:
    """A consumer's filters for its own copies."""
    own = subjects.replays_of(info.name)
    return [one for one in filters_of(_filter_fields(info)) if one in own]


def _without_copies(info: ConsumerInfo) -> list[str]:
    """A consumer's filters, changed so that they match no copies for another durable."""
    if named := without_copies(_own_filters(info)):
        return named
    raise InvalidRequest(
        f"the consumer {info.name!r} reads copies of replays and nothing else; delete it first, "
        "with `hogsend consumers delete`"
    )

"""Consumers of EVENTS during a replay: the durable reads its copies, and no other consumer does.

The durable's filter gets the subject of its copies added for as long as there are some. A consumer
that reads whatever is in the stream would get them, too; it reads the same by name from then on.
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
from hogsend.transport.connection import MANAGEMENT_SECONDS, Connection
from hogsend.transport.jetstream_error import JetStreamError
from hogsend.transport.own_consumer import list_consumers
from services.ingest.jetstream_errors import available
from services.ingest.replay.filters import by_name, filters_of, set_filters
from services.ingest.stored_messages import delete_message, read_batch
from services.ingest.stream_state import stream_state


class _Answer(msgspec.Struct, frozen=True):
    config: dict[str, Any] = {}
    error: JetStreamError | None = None


class Copies(NamedTuple):
    """What there is in the stream."""

    counts: Mapping[str, int]
    """Copies on each subject that has some."""
    last: int
    """Sequence of the stream's last message."""


class ReplayConsumers:
    """Looks at the consumers of EVENTS, and changes their filters."""

    def __init__(self, link: Connection) -> None:
        self._link = link

    async def filters(self, durable: str) -> list[str]:
        """What a durable reads.

        Raises:
            NotFound: there is no such durable.
            InvalidRequest: it is Hogsend's own, or not durable.
            Forbidden: NATS does not let this user ask, here and below.
            Unavailable: JetStream does not answer.
        """
        return _wanted(_target(await self._all(), durable))

    async def open(self, durable: str) -> None:
        """Have the durable read its copies, and no other consumer.

        Raises:
            NotFound, Unavailable: as `filters`.
            InvalidRequest: as `filters`, or a consumer reads copies and nothing else.
        """
        found = await self._all()
        target = _target(found, durable)
        apart = {one.name: _apart_from_copies(one) for one in found}
        for one in found:
            if one.name != durable and apart[one.name] != _wanted(one):
                # Another replay may be open: what is this consumer's own stays.
                await self._set_filters(one.name, [*apart[one.name], *_copies_of(one)])
        if (own := subjects.replay(durable)) not in (read := _copies_of(target)):
            await self._set_filters(durable, [*apart[durable], *read, own])

    async def opened(self) -> dict[str, list[str]]:
        """Durables that read copies at the moment, each with the subjects of these.

        Raises:
            Unavailable: JetStream does not answer.
        """
        return {one.name: read for one in await self._all() if (read := _copies_of(one))}

    async def close(self, durable: str) -> None:
        """Have the durable read what it read before.

        Raises:
            NotFound, InvalidRequest, Unavailable: as `filters`.
        """
        # A durable that was made to read copies alone stays so; without a filter it had everything.
        if wanted := await self.filters(durable):
            await self._set_filters(durable, wanted)

    async def copies(self) -> Copies:
        """How many copies there are on each subject.

        Raises:
            Unavailable: JetStream does not answer.
        """
        state = await stream_state(self._link, StreamName.EVENTS, f"{subjects.REPLAYS}.*")
        return Copies(state.subjects or {}, state.last_seq)

    async def forget_acknowledged(self, durable: str) -> int:
        """Delete the copies that a durable has acknowledged, and count the others.

        Raises:
            Unavailable: JetStream does not answer.
        """
        with available(self._link):
            info = await self._link.wait_unless_refused(
                f"{API}.CONSUMER.INFO.{StreamName.EVENTS}.{durable}",
                self._link.js.consumer_info(StreamName.EVENTS, durable),
            )
            floor = info.ack_floor.stream_seq if info.ack_floor else 0
        own = _copies_of(info)
        for subject in own:
            await self.forget(subject, floor)
        counts = (await self.copies()).counts
        return sum(counts.get(subject, 0) for subject in own)

    async def forget(self, subject: str, last: int) -> None:
        """Delete the copies on a subject, up to a sequence.

        Raises:
            Unavailable: JetStream does not answer.
        """
        # Not purged: nats-server 2.11 and 2.12 move a durable that reads the purged subject besides
        # others to the end of the stream, past what it has not read.
        stream, first = StreamName.EVENTS, 1
        while first <= last:
            batch = await read_batch(self._link, stream, first=first, subject=subject)
            done = [one.sequence for one in batch if one.sequence <= last]
            await asyncio.gather(*(delete_message(self._link, stream, one) for one in done))
            if not done or len(done) < len(batch):
                return
            first = done[-1] + 1

    async def _all(self) -> list[ConsumerInfo]:
        with available(self._link):
            try:
                return await self._link.wait_unless_refused(
                    f"{API}.CONSUMER.LIST.{StreamName.EVENTS}",
                    list_consumers(self._link.js, StreamName.EVENTS),
                )
            except js_errors.NotFoundError:
                raise NotFound("there is no stream of events yet") from None

    async def _set_filters(self, name: str, filters: Sequence[str]) -> None:
        with available(self._link):
            js = await self._link.js_for(StreamName.EVENTS)
            api = API if js is self._link.js else OWN_API
            # As it is, with fields that the client library does not know.
            config = (await self._ask(f"{api}.CONSUMER.INFO.{StreamName.EVENTS}.{name}")).config
            subject = f"{api}.CONSUMER.CREATE.{StreamName.EVENTS}.{name}"
            set_filters(config, filters)
            if len(filters) == 1:
                # The server checks that the last part is the filter.
                subject = f"{subject}.{filters[0]}"
            wanted = {"stream_name": StreamName.EVENTS, "config": config, "action": "update"}
            await self._ask(subject, msgspec.json.encode(wanted))

    async def _ask(self, subject: str, body: bytes = b"") -> _Answer:
        message = await self._link.request_raw(subject, body, seconds=MANAGEMENT_SECONDS)
        answer = msgspec.json.decode(message.data, type=_Answer)
        if answer.error is not None:
            raise Unavailable(f"JetStream refuses: {answer.error.description}")
        return answer


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


def _config(info: ConsumerInfo) -> dict[str, Any]:
    one = info.config
    return {"filter_subject": one.filter_subject, "filter_subjects": one.filter_subjects}


def _wanted(info: ConsumerInfo) -> list[str]:
    """What it reads apart from copies for itself."""
    own = subjects.replays_of(info.name)
    return [one for one in filters_of(_config(info)) if one not in own]


def _copies_of(info: ConsumerInfo) -> list[str]:
    """Subjects of copies for itself that it reads."""
    own = subjects.replays_of(info.name)
    return [one for one in filters_of(_config(info)) if one in own]


def _apart_from_copies(info: ConsumerInfo) -> list[str]:
    """What it is to read apart from copies for itself: nothing of anybody else's."""
    if named := by_name(_wanted(info)):
        return named
    raise InvalidRequest(
        f"the consumer {info.name!r} reads copies of replays and nothing else; delete it first, "
        "with `hogsend consumers delete`"
    )

"""Consumers of other people's services: found as they are, made when missing, never changed.

JetStream's create takes a new filter for an existing durable without a word. Two programs that use
one durable name for different events would then take each other's events, and acknowledge what
neither handled.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Any

import msgspec
import nats.errors
from nats.js.api import AckPolicy, ConsumerConfig

from hogsend.contract.consumers import API
from hogsend.contract.errors import ConsumerConflict, Forbidden, InvalidRequest
from hogsend.contract.subjects import REPLAYS
from hogsend.transport.connection import MANAGEMENT_SECONDS, Connection
from hogsend.transport.errors import UNREACHABLE
from hogsend.transport.jetstream_error import JetStreamError

_NOT_AVAILABLE, _FORBIDDEN = 503, 403
_EXISTS_OTHERWISE = 10148
"""JetStream's code for a create, with `action` `create`, of a consumer that differs."""
_NOT_FOUND, _OFFLINE = 10014, 10119
"""JetStream's codes for a consumer that does not exist, and for one whose servers are down."""

UNREACHABLE_SECONDS = 5.0
"""How long an answer about a consumer may take before its server counts as down."""

FORGET_SECONDS = 1.0
"""How long a stop waits for that a consumer is forgotten."""
_ACK_WAIT = 30 * 10**9
"""What JetStream takes unless told otherwise, in nanoseconds."""
_WHAT_TO_DO = (
    "use another durable name, or delete the consumer first (`hogsend consumers delete`), which "
    "forgets its position"
)


class ConsumerLost(Exception):
    """There is no such consumer any more."""


class ConsumerUnreachable(nats.errors.Error):
    """The server that has the consumer does not answer."""


class _Existing(msgspec.Struct, frozen=True):
    filter_subject: str | None = None
    filter_subjects: list[str] | None = None
    deliver_subject: str | None = None
    ack_policy: str = AckPolicy.EXPLICIT.value
    ack_wait: int = 0
    """Nanoseconds."""
    backoff: list[int] = []
    """Nanoseconds; the first takes the place of `ack_wait` until a message comes again."""

    @property
    def filters(self) -> frozenset[str]:
        subjects = self.filter_subjects or ([self.filter_subject] if self.filter_subject else [])
        # Ingest adds this one for as long as a replay to the consumer lasts.
        return frozenset(one for one in subjects if not one.startswith(f"{REPLAYS}."))


class FoundConsumer(msgspec.Struct, frozen=True):
    """A consumer that is there."""

    name: str
    ack_wait: float
    """Seconds after which a message comes again of which nothing is heard."""
    created: datetime
    delivered: int
    """Sequence of the stream's last message that it has delivered, or begins behind."""


class _Delivered(msgspec.Struct, frozen=True):
    stream_seq: int = 0


class _Answer(msgspec.Struct, frozen=True):
    """JetStream's answer about one consumer."""

    name: str = ""
    config: _Existing = _Existing()
    created: datetime = datetime.min.replace(tzinfo=UTC)
    delivered: _Delivered = _Delivered()
    error: JetStreamError | None = None

    @property
    def found(self) -> FoundConsumer:
        shortest = (min(self.config.backoff, default=self.config.ack_wait) or _ACK_WAIT) / 1e9
        return FoundConsumer(self.name, shortest, self.created, self.delivered.stream_seq)


def named(config: ConsumerConfig) -> ConsumerConfig:
    """Give a consumer that is not durable a name of its own.

    Only named consumers have a subject that permissions can tell apart, and are found again after a
    reconnection.
    """
    return config.evolve(name=secrets.token_hex(8))


async def found_or_made(
    connection: Connection, stream: str, config: ConsumerConfig
) -> FoundConsumer:
    """Give the consumer, made as `config` says when there is none.

    Raises:
        ConsumerConflict: one of that name reads other subjects, is a push consumer, or is not
            acknowledged in the way that is asked for.
        InvalidRequest: JetStream does not take the configuration.
        Forbidden: this NATS user may not make it, or only Hogsend may.
        nats.errors.Error: JetStream cannot be reached, or has no such stream now.
    """
    name = config.durable_name or config.name or ""
    subject = f"{API}.CONSUMER.CREATE.{stream}.{name}"
    if config.filter_subject:
        # The server checks that the last part is the filter.
        subject = f"{subject}.{config.filter_subject}"
    wanted = {"stream_name": stream, "config": config.as_dict() | {"name": name}}
    try:
        answer = await _ask(connection, subject, wanted | {"action": "create"})
    except nats.errors.NoRespondersError:
        # Ingest makes consumers, and is down; one that exists does without it.
        answer = _Answer(error=JetStreamError(_NOT_AVAILABLE))
    if answer.error is None:
        return answer.found
    if answer.error.err_code != _EXISTS_OTHERWISE and answer.error.code != _NOT_AVAILABLE:
        raise _failure(answer.error)
    existing = await _ask(connection, f"{API}.CONSUMER.INFO.{stream}.{name}", {})
    if existing.error is not None:
        raise _failure(existing.error)
    asked = _Existing(config.filter_subject, config.filter_subjects)
    if existing.config.filters != asked.filters or existing.config.deliver_subject:
        raise ConsumerConflict(_conflict(name, existing.config, asked))
    asked_policy = (config.ack_policy or AckPolicy.EXPLICIT).value
    if existing.config.ack_policy != asked_policy:
        # With another one nothing comes again, or one acknowledgement counts for others' messages.
        raise ConsumerConflict(
            f"the durable consumer {name!r} exists with the acknowledgement policy "
            f"{existing.config.ack_policy!r}, not {asked_policy!r}; {_WHAT_TO_DO}"
        )
    return existing.found


async def known_consumer(connection: Connection, stream: str, name: str) -> FoundConsumer:
    """Give a consumer that was there before.

    Raises:
        ConsumerLost: it is no more.
        ConsumerUnreachable: its server does not answer, as while that is down.
        Forbidden: this NATS user may not see it.
        nats.errors.Error: JetStream cannot be reached, or has no such stream now.
    """
    subject = f"{API}.CONSUMER.INFO.{stream}.{name}"
    try:
        answer = await _ask(connection, subject, {}, seconds=UNREACHABLE_SECONDS)
    except TimeoutError as error:
        raise ConsumerUnreachable(f"nothing is heard of the consumer {name}") from error
    if answer.error is None:
        return answer.found
    if answer.error.err_code == _NOT_FOUND:
        raise ConsumerLost(answer.error.description)
    if answer.error.err_code == _OFFLINE:
        raise ConsumerUnreachable(answer.error.description)
    raise _failure(answer.error)


async def forget(connection: Connection, stream: str, name: str) -> None:
    """Have JetStream forget a consumer that is not durable, as it is not read any more.

    Left alone, each counts for its five minutes among those that a stream may have. Raises nothing.
    """
    if not connection.connected:
        return
    subject = f"{API}.CONSUMER.DELETE.{stream}.{name}"
    try:
        await connection.request_raw(subject, b"", seconds=FORGET_SECONDS)
    except (*UNREACHABLE, Forbidden) as error:
        connection.observe("consumer", f"{name} of {stream} is forgotten later: {error!r}")


async def _ask(
    connection: Connection,
    subject: str,
    body: dict[str, Any],
    *,
    seconds: float = MANAGEMENT_SECONDS,
) -> _Answer:
    answer = await connection.request_raw(subject, msgspec.json.encode(body), seconds=seconds)
    return msgspec.json.decode(answer.data, type=_Answer)


def _failure(problem: JetStreamError) -> Exception:
    if problem.code == _FORBIDDEN:
        return Forbidden(problem.description)
    if problem.code == 400:  # noqa: PLR2004 - the request itself is at fault
        return InvalidRequest(f"JetStream refuses the consumer: {problem.description}")
    return nats.errors.Error(f"{problem.err_code} {problem.description}")


def _conflict(name: str, existing: _Existing, asked: _Existing) -> str:
    kind = "is a push consumer of" if existing.deliver_subject else "reads"
    return (
        f"the durable consumer {name!r} exists and {kind} {_listed(existing)}, not "
        f"{_listed(asked)}; {_WHAT_TO_DO}"
    )


def _listed(consumer: _Existing) -> str:
    return ", ".join(sorted(consumer.filters)) or "every subject"

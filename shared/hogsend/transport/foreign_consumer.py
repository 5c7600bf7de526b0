"""Consumers of other people's services: created when missing, and never changed.

JetStream's create request silently replaces the filter of an existing durable consumer. Two
programs that use one durable name for different events would then receive each other's events, and
acknowledge events that neither has handled.
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
from hogsend.transport.connection import Connection
from hogsend.transport.errors import UNREACHABLE
from hogsend.transport.jetstream import MANAGEMENT_SECONDS
from hogsend.transport.jetstream_error import JetStreamError

_BAD_REQUEST, _FORBIDDEN, _NOT_AVAILABLE = 400, 403, 503
_EXISTS_WITH_ANOTHER_CONFIG = 10148
"""JetStream's code for a create request, with `action` `create`, of a consumer that differs."""
_NOT_FOUND, _OFFLINE = 10014, 10119
"""JetStream's codes for a consumer that does not exist, and for one whose servers are down."""

OFFLINE_SECONDS = 5.0
"""How long a reply about a consumer may take before its server counts as down."""

DELETE_SECONDS = 1.0
"""How long a stop waits for the deletion of its consumer."""
_DEFAULT_ACK_WAIT = 30 * 10**9
"""JetStream's default of `ack_wait`, in nanoseconds."""
_REMEDY = (
    "use another durable name, or delete the consumer first (`hogsend consumers delete`), which "
    "forgets its position"
)


class ConsumerNotFound(Exception):
    """The consumer does not exist any more."""


class ConsumerOffline(nats.errors.Error):
    """The server that holds the consumer does not respond."""


class _Config(msgspec.Struct, frozen=True):
    filter_subject: str | None = None
    filter_subjects: list[str] | None = None
    deliver_subject: str | None = None
    ack_policy: str = AckPolicy.EXPLICIT.value
    ack_wait: int = 0
    """Nanoseconds."""
    backoff: list[int] = []
    """Nanoseconds before each redelivery; the first replaces `ack_wait`."""

    @property
    def filters(self) -> frozenset[str]:
        subjects = self.filter_subjects or ([self.filter_subject] if self.filter_subject else [])
        # While events are replayed to a consumer, ingest adds a filter for them.
        return frozenset(subject for subject in subjects if not subject.startswith(f"{REPLAYS}."))


class ExistingConsumer(msgspec.Struct, frozen=True):
    """A consumer that exists."""

    name: str
    ack_wait: float
    """Seconds without an acknowledgement or heartbeat before a message is redelivered."""
    created: datetime
    delivered: int
    """Stream sequence of the last delivered message, or the one before the consumer's start."""


class _Delivered(msgspec.Struct, frozen=True):
    stream_seq: int = 0


class _ConsumerReply(msgspec.Struct, frozen=True):
    """JetStream's reply about one consumer."""

    name: str = ""
    config: _Config = _Config()
    created: datetime = datetime.min.replace(tzinfo=UTC)
    delivered: _Delivered = _Delivered()
    error: JetStreamError | None = None

    @property
    def consumer(self) -> ExistingConsumer:
        shortest = min(self.config.backoff, default=self.config.ack_wait) or _DEFAULT_ACK_WAIT
        return ExistingConsumer(self.name, shortest / 1e9, self.created, self.delivered.stream_seq)


def with_random_name(config: ConsumerConfig) -> ConsumerConfig:
    """Return the configuration of an ephemeral consumer with a random name.

    Only a named consumer has a subject of its own, which permissions can distinguish and which
    finds the consumer again after a reconnect.
    """
    return config.evolve(name=secrets.token_hex(8))


async def ensure_consumer(
    connection: Connection, stream: str, config: ConsumerConfig
) -> ExistingConsumer:
    """Return the consumer with the name in `config`, and create it when missing.

    Raises:
        ConsumerConflict: an existing one reads other subjects, is a push consumer, or has another
            acknowledgement policy.
        InvalidRequest: JetStream does not accept the configuration.
        Forbidden: this NATS user may not create it, or only Hogsend may.
        nats.errors.Error: JetStream cannot be reached, or has no such stream now.
    """
    name = config.durable_name or config.name or ""
    subject = f"{API}.CONSUMER.CREATE.{stream}.{name}"
    if config.filter_subject:
        # The server checks that the subject ends with the filter.
        subject = f"{subject}.{config.filter_subject}"
    request = {
        "stream_name": stream,
        "config": config.as_dict() | {"name": name},
        "action": "create",
    }
    try:
        reply = await _request(connection, subject, request)
    except nats.errors.NoRespondersError:
        # Ingest, which creates consumers, is down. An existing consumer does not need it.
        reply = _ConsumerReply(error=JetStreamError(_NOT_AVAILABLE))
    if reply.error is None:
        return reply.consumer
    if reply.error.err_code != _EXISTS_WITH_ANOTHER_CONFIG and reply.error.code != _NOT_AVAILABLE:
        raise _exception_for(reply.error)
    existing = await _request(connection, f"{API}.CONSUMER.INFO.{stream}.{name}", {})
    if existing.error is not None:
        raise _exception_for(existing.error)
    _check_compatible(name, existing.config, config)
    return existing.consumer


async def get_consumer(connection: Connection, stream: str, name: str) -> ExistingConsumer:
    """Return a consumer that was created before.

    Raises:
        ConsumerNotFound: it does not exist any more.
        ConsumerOffline: its server does not respond.
        Forbidden: this NATS user may not see it.
        nats.errors.Error: JetStream cannot be reached, or has no such stream now.
    """
    subject = f"{API}.CONSUMER.INFO.{stream}.{name}"
    try:
        reply = await _request(connection, subject, {}, seconds=OFFLINE_SECONDS)
    except TimeoutError as error:
        raise ConsumerOffline(f"no reply about the consumer {name}") from error
    if reply.error is None:
        return reply.consumer
    if reply.error.err_code == _NOT_FOUND:
        raise ConsumerNotFound(reply.error.description)
    if reply.error.err_code == _OFFLINE:
        raise ConsumerOffline(reply.error.description)
    raise _exception_for(reply.error)


async def delete_consumer(connection: Connection, stream: str, name: str) -> None:
    """Delete an ephemeral consumer that is not read any more. Does not raise.

    Otherwise JetStream keeps it for five minutes, in which it counts towards the stream's limit of
    consumers.
    """
    if not connection.connected:
        return
    subject = f"{API}.CONSUMER.DELETE.{stream}.{name}"
    try:
        await connection.request_raw(subject, b"", seconds=DELETE_SECONDS)
    except (*UNREACHABLE, Forbidden) as error:
        connection.observe("consumer", f"{name} of {stream} is left to its timeout: {error!r}")


async def _request(
    connection: Connection,
    subject: str,
    body: dict[str, Any],
    *,
    seconds: float = MANAGEMENT_SECONDS,
) -> _ConsumerReply:
    reply = await connection.request_raw(subject, msgspec.json.encode(body), seconds=seconds)
    return msgspec.json.decode(reply.data, type=_ConsumerReply)


def _exception_for(error: JetStreamError) -> Exception:
    if error.code == _FORBIDDEN:
        return Forbidden(error.description)
    if error.code == _BAD_REQUEST:
        return InvalidRequest(f"JetStream refuses the consumer: {error.description}")
    return nats.errors.Error(f"{error.err_code} {error.description}")


def _check_compatible(name: str, existing: _Config, config: ConsumerConfig) -> None:
    requested = _Config(config.filter_subject, config.filter_subjects)
    if existing.filters != requested.filters or existing.deliver_subject:
        kind = "is a push consumer of" if existing.deliver_subject else "reads"
        raise ConsumerConflict(
            f"the durable consumer {name!r} exists and {kind} {_list_filters(existing)}, not "
            f"{_list_filters(requested)}; {_REMEDY}"
        )
    ack_policy = (config.ack_policy or AckPolicy.EXPLICIT).value
    if existing.ack_policy != ack_policy:
        # With policy `none` nothing is redelivered. With `all` one acknowledgement also counts for
        # messages that another replica is handling.
        raise ConsumerConflict(
            f"the durable consumer {name!r} exists with the acknowledgement policy "
            f"{existing.ack_policy!r}, not {ack_policy!r}; {_REMEDY}"
        )


def _list_filters(consumer: _Config) -> str:
    return ", ".join(sorted(consumer.filters)) or "every subject"

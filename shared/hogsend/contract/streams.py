"""The JetStream streams, and durable consumers of Hogsend's services.

The owner of a stream creates or updates it at start. Limits are in bytes and seconds. Which
failures an acknowledged message survives is described in `docs/durability.md`.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)

from hogsend.contract import subjects
from hogsend.contract.users import User


class StreamName(StrEnum):
    """The JetStream streams. Their configuration is in `STREAMS`."""

    WEBHOOKS = "WEBHOOKS"
    EVENTS = "EVENTS"
    CREDENTIALS = "CREDENTIALS"
    ENGAGEMENT = "ENGAGEMENT"
    PERSONS = "PERSONS"
    AUDIT = "AUDIT"
    DEADLETTER = "DEADLETTER"


MINUTE = 60
DAY = 24 * 60 * MINUTE
GIB = 1024**3
MIB = 1024**2

DEDUPLICATION_WINDOW = 5 * MINUTE
"""Seconds during which JetStream drops a repeated message id.

Later repeats are found by a unique key in PostgreSQL.
"""

STREAM_MAX_BYTES = 2 * GIB
"""Maximum size of a large stream in bytes, unless `NATS_STREAM_MAX_BYTES` is set."""

CREDENTIALS_BYTES = 16 * MIB
"""Bytes to reserve for CREDENTIALS, which has no limit: it holds one small message a provider."""


class Stream(msgspec.Struct, frozen=True):
    """A stream, and the service that creates it and updates its configuration."""

    owner: User
    config: StreamConfig


class Limits(msgspec.Struct, frozen=True):
    """Limits of the streams that the operator sets."""

    replicas: int = 1
    """Number of servers that store a copy of every stream."""
    max_bytes: int = STREAM_MAX_BYTES
    """Maximum size of a large stream in bytes. Smaller streams are scaled in proportion."""

    def applied_to(self, config: StreamConfig) -> StreamConfig:
        """A declared configuration with these limits."""
        declared = config.max_bytes
        return config.evolve(
            storage=StorageType.FILE,
            num_replicas=self.replicas,
            max_bytes=declared and declared * self.max_bytes // STREAM_MAX_BYTES,
        )

    def total_bytes(self) -> int:
        """Maximum bytes of all streams together, on a server that stores a copy of each."""
        limits = (self.applied_to(stream.config).max_bytes for stream in STREAMS.values())
        return sum(limit or CREDENTIALS_BYTES for limit in limits)


DEFAULT_LIMITS = Limits()

STREAMS: dict[StreamName, Stream] = {
    StreamName.WEBHOOKS: Stream(
        User.INGEST,
        StreamConfig(
            name=StreamName.WEBHOOKS,
            # Only slots that exist: no partition would consume another one.
            subjects=[
                f"{subjects.WEBHOOKS}.*",
                *(f"{subjects.WEBHOOKS}.*.{slot}" for slot in range(subjects.WEBHOOK_SLOTS)),
            ],
            retention=RetentionPolicy.WORK_QUEUE,
            # A full stream must never drop an accepted webhook. It refuses, and the gateway spools.
            discard=DiscardPolicy.NEW,
            max_bytes=STREAM_MAX_BYTES,
            duplicate_window=DEDUPLICATION_WINDOW,
            # Ingest reads the stream with direct gets to erase a person.
            allow_direct=True,
        ),
    ),
    StreamName.EVENTS: Stream(
        User.INGEST,
        StreamConfig(
            name=StreamName.EVENTS,
            subjects=[
                f"{subjects.EVENTS}.*",
                f"{subjects.CONTACTS}.*.erased",
                f"{subjects.REPLAYS}.*",
            ],
            retention=RetentionPolicy.LIMITS,
            discard=DiscardPolicy.OLD,
            max_age=7 * DAY,
            max_bytes=STREAM_MAX_BYTES,
            duplicate_window=DEDUPLICATION_WINDOW,
            allow_direct=True,
            # During an upgrade, replicas of the previous version publish in batches (NATS ADR-50).
            allow_batched=True,
        ),
    ),
    StreamName.CREDENTIALS: Stream(
        User.CREDENTIALS,
        StreamConfig(
            name=StreamName.CREDENTIALS,
            subjects=[f"{subjects.CREDENTIALS}.*.changed"],
            retention=RetentionPolicy.LIMITS,
            discard=DiscardPolicy.OLD,
            max_msgs_per_subject=1,
            duplicate_window=DEDUPLICATION_WINDOW,
            allow_direct=True,
        ),
    ),
    StreamName.ENGAGEMENT: Stream(
        User.INGEST,
        StreamConfig(
            name=StreamName.ENGAGEMENT,
            subjects=[f"{subjects.ENGAGEMENT}.>"],
            # Ingest deletes messages that it has recorded and all destinations have acknowledged.
            # Interest retention would drop messages published while ingest's consumer is missing.
            retention=RetentionPolicy.LIMITS,
            discard=DiscardPolicy.NEW,
            max_bytes=STREAM_MAX_BYTES,
            duplicate_window=DEDUPLICATION_WINDOW,
            # Ingest reads the stream with direct gets to erase a person.
            allow_direct=True,
        ),
    ),
    StreamName.PERSONS: Stream(
        User.ANALYTICS,
        StreamConfig(
            name=StreamName.PERSONS,
            subjects=[f"{subjects.PERSONS}.*"],
            retention=RetentionPolicy.WORK_QUEUE,
            discard=DiscardPolicy.NEW,
            max_bytes=STREAM_MAX_BYTES,
            duplicate_window=DEDUPLICATION_WINDOW,
            # Ingest reads the stream with direct gets to erase a person.
            allow_direct=True,
            # Clients of the previous version publish in batches, as with EVENTS.
            allow_batched=True,
        ),
    ),
    StreamName.AUDIT: Stream(
        User.INGEST,
        StreamConfig(
            name=StreamName.AUDIT,
            subjects=[subjects.AUDIT],
            retention=RetentionPolicy.WORK_QUEUE,
            discard=DiscardPolicy.NEW,
            max_bytes=STREAM_MAX_BYTES // 16,
            duplicate_window=DEDUPLICATION_WINDOW,
        ),
    ),
    StreamName.DEADLETTER: Stream(
        User.INGEST,
        StreamConfig(
            name=StreamName.DEADLETTER,
            subjects=[f"{subjects.DEADLETTER}.*"],
            retention=RetentionPolicy.LIMITS,
            # While this stream is full, a message that cannot be processed stays on its own stream.
            discard=DiscardPolicy.NEW,
            max_bytes=STREAM_MAX_BYTES // 4,
            max_age=30 * DAY,
            duplicate_window=DEDUPLICATION_WINDOW,
            # Ingest lists and replays dead letters with direct gets.
            allow_direct=True,
        ),
    ),
}


def patterns(stream: StreamName) -> list[str]:
    """The subject patterns of a stream, with one pattern for the subjects of all slots."""
    stored = STREAMS[stream].config.subjects or []
    with_slot = subjects.WEBHOOKS_WITH_SLOT
    without_slots = [pattern for pattern in stored if not subjects.covers(with_slot, pattern)]
    return without_slots if len(without_slots) == len(stored) else [*without_slots, with_slot]


PERSONAL_DATA_STREAMS = (
    StreamName.WEBHOOKS,
    StreamName.EVENTS,
    StreamName.ENGAGEMENT,
    StreamName.PERSONS,
    StreamName.DEADLETTER,
)
"""Streams that hold personal data: an erasure deletes the person's messages from them."""

INGEST_CONSUMER = ConsumerConfig(
    durable_name="ingest",
    filter_subject=f"{subjects.WEBHOOKS}.*",
    ack_policy=AckPolicy.EXPLICIT,
    ack_wait=30,
    max_ack_pending=20_000,
    # No limit on deliveries: a message that cannot succeed is dead-lettered, with its reason.
    max_deliver=-1,
)

AUDIT_CONSUMER = INGEST_CONSUMER.evolve(filter_subject=subjects.AUDIT)
ENGAGEMENT_CONSUMER = INGEST_CONSUMER.evolve(filter_subject=f"{subjects.ENGAGEMENT}.>")
"""The consumer through which ingest records engagement. It has the same durable name, on its own
stream."""

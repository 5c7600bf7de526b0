"""JetStream streams and durable consumers: declared here, reconciled by their owner at start.

Limits are in bytes and seconds. What an acknowledgement survives is in `docs/durability.md`.
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
    """JetStream streams; their limits are in `STREAMS`."""

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
"""How long JetStream itself drops a repeated message id; behind it stands a key in PostgreSQL."""

STREAM_MAX_BYTES = 2 * GIB
"""How large a large stream may become unless `NATS_STREAM_MAX_BYTES` says otherwise, in bytes."""

CREDENTIALS_BYTES = 16 * MIB
"""More than the one message a provider that CREDENTIALS holds can ever take."""


class Stream(msgspec.Struct, frozen=True):
    """A stream and the service that creates it and keeps its configuration current."""

    owner: User
    config: StreamConfig


class Limits(msgspec.Struct, frozen=True):
    """What an operator decides about streams."""

    replicas: int = 1
    """Copies of every stream."""
    max_bytes: int = STREAM_MAX_BYTES
    """How large a large stream may become, in bytes; the others follow in proportion."""

    def applied_to(self, config: StreamConfig) -> StreamConfig:
        """Give a declared stream these limits."""
        most = config.max_bytes
        return config.evolve(
            storage=StorageType.FILE,
            num_replicas=self.replicas,
            max_bytes=most and most * self.max_bytes // STREAM_MAX_BYTES,
        )

    def total_bytes(self) -> int:
        """What all streams together may take on each server that holds a copy, in bytes."""
        declared = (self.applied_to(stream.config).max_bytes for stream in STREAMS.values())
        return sum(most or CREDENTIALS_BYTES for most in declared)


DEFAULT_LIMITS = Limits()

STREAMS: dict[StreamName, Stream] = {
    StreamName.WEBHOOKS: Stream(
        User.INGEST,
        StreamConfig(
            name=StreamName.WEBHOOKS,
            # A slot that does not exist is not taken: no partition would consume it.
            subjects=[
                f"{subjects.WEBHOOKS}.*",
                *(f"{subjects.WEBHOOKS}.*.{slot}" for slot in range(subjects.WEBHOOK_SLOTS)),
            ],
            retention=RetentionPolicy.WORK_QUEUE,
            # Full means refuse, so that the gateway spools; never forget an accepted webhook.
            discard=DiscardPolicy.NEW,
            max_bytes=STREAM_MAX_BYTES,
            duplicate_window=DEDUPLICATION_WINDOW,
            # Ingest reads it so, to erase a person.
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
            # Replicas of the version before publish in batches (NATS ADR-50) during an upgrade.
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
            # Ingest deletes what it has recorded and every destination is done with. Retention by
            # interest would forget what is accepted while ingest's consumer is missing.
            retention=RetentionPolicy.LIMITS,
            discard=DiscardPolicy.NEW,
            max_bytes=STREAM_MAX_BYTES,
            duplicate_window=DEDUPLICATION_WINDOW,
            # Ingest reads it so, to erase a person.
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
            # Ingest reads it so, to erase a person.
            allow_direct=True,
            # As with EVENTS, by clients of the version before.
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
            # A full dead letter refuses, and the message stays on its own stream.
            discard=DiscardPolicy.NEW,
            max_bytes=STREAM_MAX_BYTES // 4,
            max_age=30 * DAY,
            duplicate_window=DEDUPLICATION_WINDOW,
            # Ingest reads letters so, for admins who list and replay them.
            allow_direct=True,
        ),
    ),
}


def patterns(stream: StreamName) -> list[str]:
    """What a stream stores, in as few patterns as cover it."""
    stored = STREAMS[stream].config.subjects or []
    several = subjects.WEBHOOKS_WITH_SLOT
    kept = [one for one in stored if not subjects.covers(several, one)]
    return kept if len(kept) == len(stored) else [*kept, several]


ERASED_FROM = (
    StreamName.WEBHOOKS,
    StreamName.EVENTS,
    StreamName.ENGAGEMENT,
    StreamName.PERSONS,
    StreamName.DEADLETTER,
)
"""Streams that hold people's data."""

INGEST_CONSUMER = ConsumerConfig(
    durable_name="ingest",
    filter_subject=f"{subjects.WEBHOOKS}.*",
    ack_policy=AckPolicy.EXPLICIT,
    ack_wait=30,
    max_ack_pending=20_000,
    # Never given up by count: what cannot succeed is dead-lettered by its reason instead.
    max_deliver=-1,
)

AUDIT_CONSUMER = INGEST_CONSUMER.evolve(filter_subject=subjects.AUDIT)
ENGAGEMENT_CONSUMER = INGEST_CONSUMER.evolve(filter_subject=f"{subjects.ENGAGEMENT}.>")
"""Ingest records engagement through a consumer of the same name, on the other stream."""

"""JetStream streams and durable consumers: declared here, reconciled by their owner at start.

Limits are in bytes and seconds. What an acknowledgement survives is in `docs/durability.md`.
"""

from __future__ import annotations

import msgspec
from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.errors import BadRequestError, NotFoundError

from hogsend import subjects
from hogsend.channels import StreamName, User

MINUTE = 60
DAY = 24 * 60 * MINUTE
GIB = 1024**3

DEDUPLICATION_WINDOW = 5 * MINUTE
"""How long JetStream itself drops a repeated message id; behind it stands a key in PostgreSQL."""

_STREAM_NAME_IN_USE = 10058


class Stream(msgspec.Struct, frozen=True):
    """A stream and the service that creates it and keeps its configuration current."""

    owner: User
    config: StreamConfig


STREAMS: dict[StreamName, Stream] = {
    StreamName.WEBHOOKS: Stream(
        User.INGEST,
        StreamConfig(
            name=StreamName.WEBHOOKS,
            subjects=[f"{subjects.WEBHOOKS}.*"],
            retention=RetentionPolicy.WORK_QUEUE,
            # Full means refuse, so that the gateway spools; never forget an accepted webhook.
            discard=DiscardPolicy.NEW,
            max_bytes=4 * GIB,
            duplicate_window=DEDUPLICATION_WINDOW,
        ),
    ),
    StreamName.EVENTS: Stream(
        User.INGEST,
        StreamConfig(
            name=StreamName.EVENTS,
            subjects=[f"{subjects.EVENTS}.*"],
            retention=RetentionPolicy.LIMITS,
            discard=DiscardPolicy.OLD,
            max_age=7 * DAY,
            max_bytes=4 * GIB,
            duplicate_window=DEDUPLICATION_WINDOW,
            allow_direct=True,
            # Batches get one answer (nats-server 2.14); ingest does without on older servers.
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
        # Not analytics: what is reported before ingest's consumer exists would go unrecorded.
        User.INGEST,
        StreamConfig(
            name=StreamName.ENGAGEMENT,
            subjects=[f"{subjects.ENGAGEMENT}.>"],
            # Kept until it is recorded and every destination is done with it.
            retention=RetentionPolicy.INTEREST,
            discard=DiscardPolicy.NEW,
            max_bytes=4 * GIB,
            duplicate_window=DEDUPLICATION_WINDOW,
        ),
    ),
    StreamName.PERSONS: Stream(
        User.ANALYTICS,
        StreamConfig(
            name=StreamName.PERSONS,
            subjects=[f"{subjects.PERSONS}.*"],
            retention=RetentionPolicy.WORK_QUEUE,
            discard=DiscardPolicy.NEW,
            max_bytes=4 * GIB,
            duplicate_window=DEDUPLICATION_WINDOW,
            # As with EVENTS: the library publishes together what is captured together.
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
            max_bytes=GIB // 4,
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
            max_bytes=1 * GIB,
            max_age=30 * DAY,
            duplicate_window=DEDUPLICATION_WINDOW,
            # Ingest reads letters so, for admins who list and replay them.
            allow_direct=True,
        ),
    ),
}

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


async def reconcile(js: JetStreamContext, owner: User, replicas: int = 1) -> None:
    """Create the streams `owner` owns, or bring their limits up to what is declared here.

    Raises:
        nats.js.errors.APIError: the server refuses, for example because an existing stream has
            another retention policy or storage is short.
    """
    for name in _owned_by(owner):
        config = _config(name, replicas)
        if not await _create(js, config):
            await js.update_stream(config)


async def restore(js: JetStreamContext, owner: User, replicas: int = 1) -> list[StreamName]:
    """Create the streams of `owner` that are gone, and name them.

    Those that exist stay as they are: two versions of a service may declare different limits.

    Raises:
        nats.js.errors.APIError: the server refuses.
    """
    made = []
    for name in _owned_by(owner):
        try:
            await js.stream_info(name)
        except NotFoundError:
            if await _create(js, _config(name, replicas)):
                made.append(name)
    return made


def _owned_by(owner: User) -> list[StreamName]:
    return [name for name, stream in STREAMS.items() if stream.owner is owner]


def _config(name: StreamName, replicas: int) -> StreamConfig:
    return STREAMS[name].config.evolve(storage=StorageType.FILE, num_replicas=replicas)


async def is_empty(js: JetStreamContext, name: StreamName) -> bool:
    """Whether a stream holds no message.

    Raises:
        nats.js.errors.NotFoundError: there is no such stream.
    """
    return (await js.stream_info(name)).state.messages == 0


async def _create(js: JetStreamContext, config: StreamConfig) -> bool:
    """Create one stream; False when there is one of that name with other limits."""
    if config.name == StreamName.ENGAGEMENT:
        # A stream kept by interest forgets what it accepts before somebody listens.
        return await _create_closed(js, config)
    try:
        await js.add_stream(config)
    except BadRequestError as error:
        if error.err_code != _STREAM_NAME_IN_USE:
            raise
        return False
    return True


async def _create_closed(js: JetStreamContext, config: StreamConfig) -> bool:
    """Create a stream that takes nothing before ingest's consumer is there."""
    try:
        await js.add_stream(config.evolve(subjects=[subjects.ENGAGEMENT]))
        made = True
    except BadRequestError as error:
        if error.err_code != _STREAM_NAME_IN_USE:
            raise
        made = False
    await js.add_consumer(StreamName.ENGAGEMENT, ENGAGEMENT_CONSUMER)
    if made:
        await js.update_stream(config)
    return made

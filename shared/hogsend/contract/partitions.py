"""Partitions of the webhook queue. One replica of ingest at a time consumes a partition, in order.

The gateway hashes the person of a webhook to a slot and queues the webhook under it. The slots are
distributed over the number of partitions that the operator sets. Queued webhooks do not depend on
that number, so changing it needs no change of the gateway. A partition is a durable consumer of its
slots; JetStream delivers to one reader of it at a time ("pinned client", NATS ADR-42).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from zlib import crc32

from nats.js.api import ConsumerConfig

from hogsend.contract import subjects
from hogsend.contract.identity import contact_user_id
from hogsend.contract.streams import INGEST_CONSUMER

SLOTS = subjects.WEBHOOK_SLOTS
"""Number of slots, and so the maximum number of partitions."""

GROUP = "ingest"
"""The single priority group of a partition's consumer."""
PIN_SECONDS = 6.0
"""Seconds without a pull request after which a reader loses its partition to another one."""

PARTITIONED = subjects.WEBHOOKS_WITH_SLOT
"""Pattern of the webhooks that carry a slot."""

_SLOT_TOKENS = frozenset(map(str, range(SLOTS)))
_NAME = re.compile(r"partition-(\d+)-of-(\d+)")


@dataclass
class PinnedConsumerConfig(ConsumerConfig):
    """Configuration of a consumer that has one reader at a time; nats-py lacks these fields."""

    priority_groups: list[str] = field(default_factory=lambda: [GROUP])
    priority_policy: str = "pinned_client"
    priority_timeout: int = round(PIN_SECONDS * 1e9)
    """Nanoseconds without a pull request after which the reader loses the consumer."""


def order_key(user_id: str, email: str | None) -> str:
    """The key within which events stay in order: the distinct id, or the email if the id is none.

    The email is used where the distinct id identifies no person, such as `null`. Two distinct ids
    of one person have different keys: their events depend on no order between them.
    """
    return user_id if email is None or contact_user_id(user_id) else email


def slot_of(user_id: str, email: str | None) -> int:
    """Slot of an event's webhook, from 0 to `SLOTS` - 1."""
    return crc32(order_key(user_id, email).encode()) % SLOTS


def has_slot(subject: str) -> bool:
    """Whether a webhook's subject ends in an existing slot, so that a partition consumes it."""
    return subject.rpartition(".")[2] in _SLOT_TOKENS


def partition_consumer(
    number: int, count: int, *, pin_seconds: float = PIN_SECONDS
) -> PinnedConsumerConfig:
    """Configuration of the consumer of partition `number` of `count`, numbered from 0."""
    slots = range(number, SLOTS, count)
    return PinnedConsumerConfig(
        durable_name=f"partition-{number}-of-{count}",
        filter_subjects=[f"{subjects.WEBHOOKS}.*.{slot}" for slot in slots],
        ack_policy=INGEST_CONSUMER.ack_policy,
        ack_wait=INGEST_CONSUMER.ack_wait,
        max_ack_pending=INGEST_CONSUMER.max_ack_pending,
        max_deliver=INGEST_CONSUMER.max_deliver,
        priority_timeout=round(pin_seconds * 1e9),
    )


def partitions_in(consumer: str) -> int | None:
    """Total number of partitions, from the name of a partition's consumer.

    None if `consumer` is no partition.
    """
    match = _NAME.fullmatch(consumer)
    return int(match[2]) if match else None

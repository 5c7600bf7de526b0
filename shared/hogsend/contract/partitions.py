"""Partitions of the webhook queue, each consumed by one replica of ingest at a time, in order.

Every webhook gets a slot of its person when it is queued, and the slots are dealt to as many
partitions as the operator wants. So what is queued says nothing about how many there are, and
another number needs no other publisher. A partition is a durable consumer of its slots, whose
messages JetStream gives to one reader at a time ("pinned client", NATS ADR-42).
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
"""Slots of persons, and the most partitions there can be."""

GROUP = "ingest"
"""The one priority group of a partition's consumer."""
PIN_SECONDS = 6.0
"""A reader that JetStream does not hear of for so long loses its partition to another one."""

PARTITIONED = subjects.WEBHOOKS_WITH_SLOT
"""Webhooks that have a slot."""

_SLOT_TOKENS = frozenset(map(str, range(SLOTS)))
_NAME = re.compile(r"partition-(\d+)-of-(\d+)")


@dataclass
class PinnedConsumerConfig(ConsumerConfig):
    """A consumer that has one reader at a time; nats-py does not know its fields."""

    priority_groups: list[str] = field(default_factory=lambda: [GROUP])
    priority_policy: str = "pinned_client"
    priority_timeout: int = round(PIN_SECONDS * 1e9)
    """Nanoseconds until a reader that is not heard of has lost it."""


def whose(user_id: str, email: str | None) -> str:
    """Whose order an event belongs to: its distinct id's, or its email's where that is no person's.

    Two distinct ids of one person are two: their events say nothing of each other.
    """
    return user_id if email is None or contact_user_id(user_id) else email


def slot_of(user_id: str, email: str | None) -> int:
    """Slot of an event's webhook."""
    return crc32(whose(user_id, email).encode()) % SLOTS


def has_slot(subject: str) -> bool:
    """Whether a webhook's subject ends in a slot there is, so that a partition consumes it."""
    return subject.rpartition(".")[2] in _SLOT_TOKENS


def partition_consumer(
    number: int, count: int, *, pin_seconds: float = PIN_SECONDS
) -> PinnedConsumerConfig:
    """Configure the consumer of partition `number` of `count`, numbered from 0."""
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
    """How many partitions there are where a consumer is one of them; None for another consumer."""
    found = _NAME.fullmatch(consumer)
    return int(found[2]) if found else None

"""Slots and partitions: which partition receives a webhook."""

from __future__ import annotations

from collections import Counter

import pytest

from hogsend.contract.partitions import (
    SLOTS,
    has_slot,
    order_key,
    partition_consumer,
    partitions_in,
    slot_of,
)
from hogsend.contract.streams import INGEST_CONSUMER


def test_the_slot_of_a_person_never_changes() -> None:
    # Webhooks in streams, spools and dead letters carry slots that older versions computed.
    assert [slot_of(person, None) for person in ("u_42", "anna", "Zoë", "")] == [8, 55, 42, 0]


def test_persons_are_distributed_evenly_over_the_slots() -> None:
    counts = Counter(slot_of(f"0190-{number}", None) for number in range(64_000))
    assert set(counts) == set(range(SLOTS))
    assert all(800 < count < 1200 for count in counts.values())


def test_the_slot_depends_on_the_distinct_id_and_not_on_the_email() -> None:
    assert slot_of("u_42", "a@b.com") == slot_of("u_42", None)


@pytest.mark.parametrize("distinct_id", ["", " ", "anonymous", "null"])
def test_the_email_is_the_order_key_when_the_distinct_id_is_a_placeholder(distinct_id: str) -> None:
    assert order_key(distinct_id, "a@b.com") == "a@b.com"
    assert order_key(distinct_id, None) == distinct_id


@pytest.mark.parametrize("count", [1, 2, 7, 32, SLOTS])
def test_every_slot_belongs_to_exactly_one_partition(count: int) -> None:
    consumers = [partition_consumer(number, count) for number in range(count)]
    filters = [subject for consumer in consumers for subject in consumer.filter_subjects or ()]
    assert sorted(filters) == sorted(f"hogsend.webhooks.*.{slot}" for slot in range(SLOTS))


def test_a_partition_has_one_pinned_client_and_unlimited_deliveries() -> None:
    config = partition_consumer(1, 4, pin_seconds=2).as_dict()
    assert config["priority_policy"] == "pinned_client"
    assert config["priority_timeout"] == 2_000_000_000
    assert config["max_deliver"] == INGEST_CONSUMER.max_deliver == -1


def test_the_number_of_partitions_is_read_from_a_consumers_name() -> None:
    assert partitions_in(str(partition_consumer(3, 32).durable_name)) == 32
    assert partitions_in("ingest") is partitions_in("partition-1-of-x") is None


@pytest.mark.parametrize(
    ("subject", "expected"),
    [("posthog.0", True), ("posthog.63", True), ("posthog.64", False), ("posthog.01", False)],
)
def test_a_subject_has_a_slot_only_if_its_number_is_valid(subject: str, expected: bool) -> None:
    assert has_slot(f"hogsend.webhooks.{subject}") is expected

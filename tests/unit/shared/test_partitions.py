"""Which partition an event's webhook is of."""

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


def test_a_slot_is_the_same_for_ever() -> None:
    # Webhooks are queued, spooled and dead-lettered with it, by other processes and versions.
    assert [slot_of(person, None) for person in ("u_42", "anna", "Zoë", "")] == [8, 55, 42, 0]


def test_slots_are_as_good_as_evenly_filled() -> None:
    filled = Counter(slot_of(f"0190-{number}", None) for number in range(64_000))
    assert set(filled) == set(range(SLOTS))
    assert all(800 < count < 1200 for count in filled.values())


def test_an_event_is_its_distinct_ids_whatever_the_person_is_called() -> None:
    assert slot_of("u_42", "a@b.com") == slot_of("u_42", None)


@pytest.mark.parametrize("nobody", ["", " ", "anonymous", "null"])
def test_an_event_of_nobody_is_the_emails(nobody: str) -> None:
    assert order_key(nobody, "a@b.com") == "a@b.com"
    assert order_key(nobody, None) == nobody


@pytest.mark.parametrize("count", [1, 2, 7, 32, SLOTS])
def test_every_slot_is_in_exactly_one_partition(count: int) -> None:
    consumers = [partition_consumer(number, count) for number in range(count)]
    filters = [subject for consumer in consumers for subject in consumer.filter_subjects or ()]
    assert sorted(filters) == sorted(f"hogsend.webhooks.*.{slot}" for slot in range(SLOTS))


def test_a_partition_has_one_reader_and_nothing_is_given_up() -> None:
    config = partition_consumer(1, 4, pin_seconds=2).as_dict()
    assert config["priority_policy"] == "pinned_client"
    assert config["priority_timeout"] == 2_000_000_000
    assert config["max_deliver"] == INGEST_CONSUMER.max_deliver == -1


def test_a_partitions_name_says_how_many_there_are() -> None:
    assert partitions_in(str(partition_consumer(3, 32).durable_name)) == 32
    assert partitions_in("ingest") is partitions_in("partition-1-of-x") is None


@pytest.mark.parametrize(
    ("subject", "is_one"),
    [("posthog.0", True), ("posthog.63", True), ("posthog.64", False), ("posthog.01", False)],
)
def test_only_slots_there_are_count(subject: str, is_one: bool) -> None:
    assert has_slot(f"hogsend.webhooks.{subject}") is is_one

"""The calculations for `docs/scale.md`."""

from __future__ import annotations

import pytest

from benchmarks import plan
from benchmarks.partition_skew import assigned, shares, simulate, weights
from docs.generators import scale


def test_the_planned_machines_process_a_billion_events_a_day_with_one_of_them_down() -> None:
    for use, busy in (("gateway", "gateway"), ("ingest", "ingest"), ("NATS", "NATS")):
        group = next(machines for machines in plan.machines() if machines.use == use)
        # One machine may be down.
        assert (group.number - 1) * group.vcpu * plan.BUSY >= plan.cores()[busy]


def test_the_planned_disks_hold_all_retained_events() -> None:
    events = next(m for m in plan.machines() if m.use == "PostgreSQL, events")
    retained_bytes = plan.EVENTS_A_DAY * plan.KEPT_DAYS * plan.STORED_BYTES
    assert events.number / plan.SERVERS * events.disk_tb * 1e12 > retained_bytes


def test_a_longer_retention_costs_more() -> None:
    assert plan.monthly(7) < plan.monthly(30) < plan.monthly(90)


def test_the_page_contains_every_table_of_the_plan() -> None:
    page = scale.PAGE.read_text()
    assert all(f"<!-- plan: {name} -->" in page for name in plan.TABLES)


def test_the_share_of_a_partition_is_the_sum_of_its_persons() -> None:
    assert shares([0, 1, 4, 5], [0.4, 0.3, 0.2, 0.1], 4) == pytest.approx([0.6, 0.4, 0, 0])


def test_the_weights_of_persons_follow_the_exponent() -> None:
    shares_of_persons = weights(3, 1.0)
    assert sum(shares_of_persons) == pytest.approx(1)
    assert shares_of_persons[0] / shares_of_persons[2] == pytest.approx(3)


def test_each_partition_is_assigned_to_the_replica_with_the_least_load() -> None:
    assert assigned([5, 1, 4, 2], 2) == [6, 6]


def test_more_partitions_do_not_reduce_the_load_of_the_busiest_person() -> None:
    for result in simulate(people=200):
        assert result.hottest / result.partitions >= result.busiest_person

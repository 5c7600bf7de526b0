"""The sums behind `docs/scale.md`."""

from __future__ import annotations

import pytest

from benchmarks import plan
from benchmarks.partition_skew import assigned, shares, simulate, weights
from docs.generators import scale


def test_a_billion_a_day_is_carried_by_what_is_rented() -> None:
    for use, busy in (("gateway", "gateway"), ("ingest", "ingest"), ("NATS", "NATS")):
        rented = next(one for one in plan.machines() if one.use == use)
        # One of them may be away.
        assert (rented.number - 1) * rented.vcpu * plan.BUSY >= plan.cores()[busy]


def test_disks_hold_what_is_kept() -> None:
    events = next(one for one in plan.machines() if one.use == "PostgreSQL, events")
    kept = plan.EVENTS_A_DAY * plan.KEPT_DAYS * plan.STORED_BYTES
    assert events.number / plan.SERVERS * events.disk_tb * 1e12 > kept


def test_keeping_events_longer_costs_more() -> None:
    assert plan.monthly(7) < plan.monthly(30) < plan.monthly(90)


def test_every_table_of_the_page_is_one_of_the_plan() -> None:
    page = scale.PAGE.read_text()
    assert all(f"<!-- plan: {name} -->" in page for name in plan.TABLES)


def test_people_of_one_partition_are_added_up() -> None:
    assert shares([0, 1, 4, 5], [0.4, 0.3, 0.2, 0.1], 4) == pytest.approx([0.6, 0.4, 0, 0])


def test_the_busiest_person_is_the_busiest_by_the_exponent() -> None:
    each = weights(3, 1.0)
    assert sum(each) == pytest.approx(1)
    assert each[0] / each[2] == pytest.approx(3)


def test_partitions_go_to_whoever_has_least() -> None:
    assert assigned([5, 1, 4, 2], 2) == [6, 6]


def test_more_partitions_do_not_divide_a_person() -> None:
    for one in simulate(people=200):
        assert one.hottest / one.partitions >= one.busiest_person

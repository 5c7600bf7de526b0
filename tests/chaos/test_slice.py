"""Short runs of `make chaos` and `make chaos-cluster`, and the report itself."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from tests.chaos.cluster import cluster
from tests.chaos.faults import FAULTS, cluster_faults
from tests.chaos.ledger import Ledger
from tests.chaos.run import Report, chaos
from tests.running_stack import up


@pytest.mark.timeout(600)
async def test_no_event_is_lost_after_each_fault_was_injected_once(tmp_path: Path) -> None:
    seed, running = secrets.randbelow(10**6), up(tmp_path / "home", tmp_path)
    report = await chaos(running, seed=seed, faults=FAULTS, max_faults=len(FAULTS))
    print("\n".join(report.lines()))  # noqa: T201 - with its random seed, to repeat it
    assert report.violations() == []
    assert report.recoveries.keys() == {fault.name for fault in FAULTS}
    assert len(report.ledger.accepted) > 500


@pytest.mark.timeout(600)
async def test_no_event_is_lost_while_faults_are_injected_into_a_cluster(tmp_path: Path) -> None:
    seed = secrets.randbelow(10**6)
    report = await chaos(cluster(tmp_path), seed=seed, faults=cluster_faults(), max_faults=8)
    print("\n".join(report.lines()))  # noqa: T201
    assert report.violations() == []
    assert len(report.ledger.accepted) > 200


def test_a_broken_guarantee_is_reported() -> None:
    ledger = Ledger(sent={"a", "b", "c"}, accepted={"a", "b"})
    ledger.received.update({"a": 2, "x": 1})
    report = Report(1, ledger=ledger, stored=["a", "a", "y"])
    assert report.violations() == [
        "accepted but not stored: 1, e.g. b",
        "accepted but never published: 1, e.g. b",
        "stored or published but never sent: 2, e.g. x",
        "stored more than once: 1",
    ]
    intact = Report(1, ledger=Ledger({"a"}, {"a"}), stored=["a"])
    intact.ledger.received.update({"a": 1})
    assert intact.violations() == []
    assert intact.lines()[-1] == "nothing lost, nothing twice, nothing made up"

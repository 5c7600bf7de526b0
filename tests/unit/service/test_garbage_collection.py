"""The settings of the garbage collector, which are restored for other tests."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from hogsend.service import garbage_collection


@pytest.fixture
def _collector() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()


@pytest.mark.usefixtures("_collector")
def test_the_collector_does_not_run_while_a_batch_is_allocated() -> None:
    garbage_collection.configure()
    before = gc.get_stats()
    batch = [[number] for number in range(5_000)]
    assert gc.get_stats() == before
    assert len(batch) < garbage_collection.YOUNG_OBJECTS
    assert gc.get_freeze_count() > 0

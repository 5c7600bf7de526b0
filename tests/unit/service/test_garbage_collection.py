"""The collector's settings; nothing of them stays for other tests."""

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
def test_a_batch_of_events_in_use_is_not_searched_for_garbage() -> None:
    garbage_collection.configure()
    before = gc.get_stats()
    batch = [[number] for number in range(5_000)]
    assert gc.get_stats() == before
    assert len(batch) < garbage_collection.YOUNG_OBJECTS
    assert gc.get_freeze_count() > 0

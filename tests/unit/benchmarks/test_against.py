"""Two versions' figures side by side."""

from __future__ import annotations

import pytest

from benchmarks.against import CannotCompare, Comparison, compare, measure, table
from benchmarks.figures import Figure


def _rounds(**details: tuple[float, float, float]) -> list[list[Figure]]:
    return [
        [Figure("it", "1", details={name: values[number] for name, values in details.items()})]
        for number in range(3)
    ]


def _gains(compared: list[Comparison]) -> dict[str, float | None]:
    return {one.name: one.gain for one in compared}


def test_medians_are_compared_and_more_is_better_or_less() -> None:
    before = _rounds(rows_per_second=(100, 1, 200), us_ingest=(10, 10, 99), batch=(5, 5, 5))
    after = _rounds(rows_per_second=(50, 50, 50), us_ingest=(5, 5, 5), batch=(5, 5, 5))
    compared = compare(before, after)
    assert _gains(compared) == {
        "it: rows_per_second": 0.5,
        "it: us_ingest": 2,
        "it: batch": None,
    }
    assert [one.is_worse for one in compared] == [True, False, False]
    assert "| it: rows_per_second | 100 | 50 | 0.50 (worse) |" in table(compared)


def test_what_is_compared_with_is_not_judged() -> None:
    before = _rounds(peer_us_together=(1, 1, 1), echoes_per_second=(9, 9, 9))
    after = _rounds(peer_us_together=(9, 9, 9), echoes_per_second=(1, 1, 1))
    assert not any(one.is_worse for one in compare(before, after))


def test_a_number_that_one_version_does_not_have_is_left_out() -> None:
    assert compare(_rounds(old_ms=(1, 1, 1)), _rounds(new_ms=(1, 1, 1))) == []


async def test_a_commit_that_does_not_exist_is_said() -> None:
    with pytest.raises(CannotCompare, match="no-such-commit"):
        await measure("no-such-commit", ["bearers"])

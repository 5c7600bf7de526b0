"""`make bench-against`: compares the figures of two versions."""

from __future__ import annotations

import pytest

from benchmarks.against import CannotCompare, Comparison, compare, measure, table
from benchmarks.figures import Figure


def _rounds(**details: tuple[float, float, float]) -> list[list[Figure]]:
    return [
        [Figure("part", "1", details={name: values[number] for name, values in details.items()})]
        for number in range(3)
    ]


def _gains(compared: list[Comparison]) -> dict[str, float | None]:
    return {comparison.name: comparison.gain for comparison in compared}


def test_the_medians_of_both_versions_are_compared_in_the_direction_of_the_figure() -> None:
    before = _rounds(rows_per_second=(100, 1, 200), us_ingest=(10, 10, 99), batch=(5, 5, 5))
    after = _rounds(rows_per_second=(50, 50, 50), us_ingest=(5, 5, 5), batch=(5, 5, 5))
    compared = compare(before, after)
    assert _gains(compared) == {
        "part: rows_per_second": 0.5,
        "part: us_ingest": 2,
        "part: batch": None,
    }
    assert [comparison.is_worse for comparison in compared] == [True, False, False]
    assert "| part: rows_per_second | 100 | 50 | 0.50 (worse) |" in table(compared)


def test_a_figure_of_a_peer_is_never_worse() -> None:
    before = _rounds(peer_us_together=(1, 1, 1), echoes_per_second=(9, 9, 9))
    after = _rounds(peer_us_together=(9, 9, 9), echoes_per_second=(1, 1, 1))
    assert not any(comparison.is_worse for comparison in compare(before, after))


def test_a_figure_that_only_one_version_has_is_omitted() -> None:
    assert compare(_rounds(old_ms=(1, 1, 1)), _rounds(new_ms=(1, 1, 1))) == []


async def test_a_commit_that_does_not_exist_raises_an_error_with_its_name() -> None:
    with pytest.raises(CannotCompare, match="no-such-commit"):
        await measure("no-such-commit", ["bearers"])

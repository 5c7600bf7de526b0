"""Which settled positions are remembered."""

from __future__ import annotations

from services.analytics.delivery.settlement import RecentPositions


def test_the_newest_positions_are_remembered() -> None:
    recent = RecentPositions(3)
    for position in (1, 2, 3, 3, 4):
        recent.add(position)
    assert [position for position in range(6) if position in recent] == [2, 3, 4]

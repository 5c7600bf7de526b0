"""When sending is blocked."""

from __future__ import annotations

from services.analytics.delivery.send_gate import SendGate


def test_a_shorter_pause_does_not_end_a_longer_one() -> None:
    gate = SendGate()
    gate.pause(100.0)
    gate.pause(5.0)
    assert gate.closed_for(40.0) == 60.0
    gate.pause(120.0)
    assert gate.closed_for(100.0) == 20.0
    assert gate.closed_for(120.0) is None

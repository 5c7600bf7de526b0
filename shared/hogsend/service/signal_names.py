"""What a signal that ended a process is called."""

from __future__ import annotations

import signal


def signal_name(number: int) -> str:
    """Give a signal's name; most real-time signals have none, as `signal 35`."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"

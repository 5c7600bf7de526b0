"""Names of the signals that end processes."""

from __future__ import annotations

import signal


def signal_name(number: int) -> str:
    """Return a signal's name, or `signal 35` for one without a name (most real-time signals)."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"

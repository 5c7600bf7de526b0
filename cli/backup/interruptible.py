"""Ctrl-C during blocking calls inside the event loop."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interruptible() -> Iterator[None]:
    """Make Ctrl-C raise `KeyboardInterrupt` in the block at once.

    Under asyncio's own handler Ctrl-C cancels the task. The cancellation would only take effect
    after the block, and would then also interrupt the cleanup that follows the block.
    """
    previous = signal.getsignal(signal.SIGINT)
    if not callable(previous):
        # SIGINT is ignored, as in a process that a shell has started in the background.
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)

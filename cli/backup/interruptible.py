"""Ctrl-C while something holds the event loop up."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise `KeyboardInterrupt` in the block, as soon as Ctrl-C is pressed.

    asyncio would cancel the task, which ends it when the block is done, and would end what cleans
    up behind the block, too.
    """
    earlier = signal.getsignal(signal.SIGINT)
    if not callable(earlier):
        # It is ignored, as by what a shell has started in the background.
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, earlier)

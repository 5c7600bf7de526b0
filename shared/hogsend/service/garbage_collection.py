"""When Python looks for garbage that counting references cannot free.

By default it looks after every 700 objects that were made and not freed, and each look goes
through what is young, at times through everything. A batch of 500 events is more than that many
objects, all of them in use: the collector searched in vain all the time, and cost ingest a seventh
of its CPU. Nothing here depends on it: what handles messages and requests leaves no cycles.
"""

from __future__ import annotations

import gc

YOUNG_OBJECTS = 10_000
"""Objects made and not yet freed before the collector looks; 50,000 gained nothing more."""


def settle() -> None:
    """Search less often, and never through what was imported so far; call it once at start.

    What was imported stays for as long as the process.
    """
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)

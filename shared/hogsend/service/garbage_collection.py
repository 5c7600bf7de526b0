"""Settings of Python's cyclic garbage collector, which frees what reference counting cannot.

By default the collector runs after every 700 allocations that were not freed, on young objects and
at times on all of them. A batch of 500 events allocates more than that, and all of it is in use.
The collector ran all the time, found nothing, and used a seventh of ingest's CPU. Running it less
often is safe: the handlers of messages and requests leave no reference cycles.
"""

from __future__ import annotations

import gc

YOUNG_OBJECTS = 10_000
"""Allocations that are not freed before the collector runs; 50,000 measured no better."""


def configure() -> None:
    """Run the collector less often, and never on the objects that exist now; call once at start.

    Imported modules are kept until the process ends, so the collector need not check their objects.
    """
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)

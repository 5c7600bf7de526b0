"""Which versions of the NATS server are supported.

Dead letters, replays and erasures read messages in batches (NATS ADR-31), and partitions are pinned
to one reader (NATS ADR-42): both came with 2.11. An older server, such as the 2.9 of Debian 12,
answers in ways that look like other faults.
"""

from __future__ import annotations

import re

OLDEST = (2, 11)

_NUMBERS = re.compile(r"(\d+)\.(\d+)")


def version_problem(version: str) -> str | None:
    """What is wrong with a server of that version; None for one that will do, or says nothing.

    Args:
        version: as the server says it.
    """
    numbers = _NUMBERS.match(version)
    if numbers is None or (int(numbers[1]), int(numbers[2])) >= OLDEST:
        return None
    needed = ".".join(map(str, OLDEST))
    return f"nats-server {version} is too old: Hogsend needs {needed} or newer"

"""Which versions of the NATS server are supported.

Dead letters, replays and erasures read messages in batches (NATS ADR-31), and partitions are pinned
to one reader (NATS ADR-42): both require 2.11. The errors of an older server, such as the 2.9 of
Debian 12, would look like other faults.
"""

from __future__ import annotations

import re

OLDEST = (2, 11)

_NUMBERS = re.compile(r"(\d+)\.(\d+)")


def version_problem(version: str) -> str | None:
    """Return why a server's version is not supported; None if it is, or is not known.

    Args:
        version: as the server reports it, may be empty.
    """
    match = _NUMBERS.match(version)
    if match is None or (int(match[1]), int(match[2])) >= OLDEST:
        return None
    oldest = ".".join(map(str, OLDEST))
    return f"nats-server {version} is too old: Hogsend needs {oldest} or newer"

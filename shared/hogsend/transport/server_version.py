"""Which versions of the NATS server are supported.

Consumers are made with the `create` action and may have several filters, which came with 2.10. An
older server, such as the 2.9 of Debian 12, answers in ways that look like other faults.
"""

from __future__ import annotations

import re

OLDEST = (2, 10)
PINS_SINCE = (2, 11)
"""The first that gives a consumer's messages to one reader at a time (NATS ADR-42)."""

_NUMBERS = re.compile(r"(\d+)\.(\d+)")


def too_old(version: str, *, oldest: tuple[int, int] = OLDEST, what: str = "Hogsend") -> str | None:
    """What is wrong with a server of that version; None for one that will do, or says nothing.

    Args:
        version: as the server says it.
        oldest: that will do.
        what: needs it.
    """
    numbers = _NUMBERS.match(version)
    if numbers is None or (int(numbers[1]), int(numbers[2])) >= oldest:
        return None
    needed = ".".join(map(str, oldest))
    return f"nats-server {version} is too old: {what} needs {needed} or newer"

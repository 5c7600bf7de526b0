"""Which NATS servers will do.

Consumers are made with the `create` action and may have several filters, which came with 2.10. An
older server, such as the 2.9 of Debian 12, answers in ways that look like other faults.
"""

from __future__ import annotations

import re

OLDEST = (2, 10)

_NUMBERS = re.compile(r"(\d+)\.(\d+)")


def too_old(version: str) -> str | None:
    """What is wrong with a server of that version; None for one that will do, or says nothing."""
    numbers = _NUMBERS.match(version)
    if numbers is None or (int(numbers[1]), int(numbers[2])) >= OLDEST:
        return None
    oldest = ".".join(map(str, OLDEST))
    return f"nats-server {version} is too old: Hogsend needs {oldest} or newer"

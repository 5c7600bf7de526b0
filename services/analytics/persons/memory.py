"""How much memory what is known of persons takes: it is others who choose how much that is."""

from __future__ import annotations

import sys
from typing import Any

KEPT_BYTES = 64 * 1024 * 1024
"""Most that one cache of persons takes, about."""


def bytes_of(value: Any) -> int:
    """About how much memory a value that was read from JSON takes.

    Small values take many times what they are as JSON.
    """
    if not isinstance(value, (dict, list)):
        return sys.getsizeof(value)
    size, left = 0, [value]
    while left:
        one = left.pop()
        size += sys.getsizeof(one)
        if isinstance(one, dict):
            left += one.keys()
            left += one.values()
        elif isinstance(one, list):
            left += one
    return size

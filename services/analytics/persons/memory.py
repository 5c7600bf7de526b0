"""Memory limits for cached persons, whose size the users of PostHog choose."""

from __future__ import annotations

import sys
from typing import Any

CACHE_BYTES = 64 * 1024 * 1024
"""Approximate memory limit of one cache of persons."""


def memory_bytes(value: Any) -> int:
    """Approximate memory use of a value that was decoded from JSON.

    Small values take many times the length of their JSON.
    """
    if not isinstance(value, (dict, list)):
        return sys.getsizeof(value)
    size, remaining = 0, [value]
    while remaining:
        element = remaining.pop()
        size += sys.getsizeof(element)
        if isinstance(element, dict):
            remaining += element.keys()
            remaining += element.values()
        elif isinstance(element, list):
            remaining += element
    return size

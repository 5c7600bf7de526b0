"""Reads the query plans that PostgreSQL reports as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every node of a query plan."""
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)

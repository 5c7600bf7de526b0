"""Hooks of schemathesis: which generated requests are sent."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import schemathesis

MAX_QUERY_BYTES = 60_000
"""The HTTP server refuses an address of more than 64 KiB itself, with 414 (docs/http.md)."""


@schemathesis.hook
def filter_query(_context: schemathesis.HookContext, query: dict[str, Any] | None) -> bool:
    """Skip a query that the gateway would not see."""
    return query is None or len(urlencode(query, doseq=True, errors="replace")) < MAX_QUERY_BYTES

"""The id that everything caused by one HTTP request carries over the bus."""

from __future__ import annotations

from contextvars import ContextVar

correlation_id: ContextVar[str | None] = ContextVar("hogsend_correlation_id", default=None)
"""Set where a piece of work begins or continues; sent along with every request."""

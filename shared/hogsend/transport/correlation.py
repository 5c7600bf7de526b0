"""The correlation id: one id for an HTTP request and all bus messages that it causes."""

from __future__ import annotations

from contextvars import ContextVar

correlation_id: ContextVar[str | None] = ContextVar("hogsend_correlation_id", default=None)
"""Correlation id of the current task. It is sent along with every request over the bus."""

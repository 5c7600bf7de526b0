"""Logs reads that were answered without PostHog. Such reads degrade, and do not raise."""

from __future__ import annotations

import logging

from hogsend.contract.errors import TooLarge, Unavailable

log = logging.getLogger(__name__)


def log_degraded_read(operation: str, error: Unavailable | TooLarge) -> None:
    """Log that a read returned what is known without PostHog.

    Uses the standard library's logging: this runs in other people's processes, without the logs and
    metrics of Hogsend's services.
    """
    log.warning("%s answered without PostHog: %s", operation, error)

"""Logs that a read was answered without PostHog: reads degrade, and never raise."""

from __future__ import annotations

import logging

from hogsend.contract.errors import TooLarge, Unavailable

log = logging.getLogger(__name__)


def answered_without(what: str, error: Unavailable | TooLarge) -> None:
    """Log that a read was answered with what is known without PostHog.

    Not our services' logs and metrics: this runs in other people's processes.
    """
    log.warning("%s answered without PostHog: %s", what, error)

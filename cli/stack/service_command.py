"""The program that is one service."""

from __future__ import annotations

import sys


def service_command(service: str) -> list[str]:
    """Give the program and its arguments; it has none of the command line's libraries."""
    return [sys.executable, "-m", "services", "serve", service]

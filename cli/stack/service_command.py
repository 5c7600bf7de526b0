"""The command line of a service."""

from __future__ import annotations

import sys


def service_command(service: str) -> list[str]:
    """Return the command line of a service, which does not import the `hogsend` command."""
    return [sys.executable, "-m", "services", "serve", service]

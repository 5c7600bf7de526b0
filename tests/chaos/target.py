"""The interface of a running stack that faults and the ledger use."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import httpx
import psutil


class Target(Protocol):
    """A stack of `hogsend up`, or a cluster."""

    @property
    def home(self) -> Path:
        """Directory of its data."""

    @property
    def http(self) -> httpx.AsyncClient:
        """Client of its gateway, or of all its gateways in turn."""

    @property
    def admin(self) -> dict[str, str]:
        """Headers with the admin key."""

    @property
    def nats_url(self) -> str:
        """URL for subscribers, with user and password."""

    @property
    def postgres_url(self) -> str:
        """URL of PostgreSQL, with its superuser."""

    def child(self, name: str) -> psutil.Process:
        """The process of a program.

        Raises:
            LookupError: it does not run at the moment.
        """

    async def is_healthy(self) -> bool:
        """Whether all processes run and are healthy."""

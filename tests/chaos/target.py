"""What can be hurt: the part of a running stack that faults and the ledger need."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import httpx
import psutil


class Target(Protocol):
    """A stack of `hogsend up`, or a cluster."""

    @property
    def home(self) -> Path:
        """Where it keeps its data."""

    @property
    def http(self) -> httpx.AsyncClient:
        """Its gateway, or what stands before its gateways."""

    @property
    def admin(self) -> dict[str, str]:
        """Headers with the admin key."""

    @property
    def nats_url(self) -> str:
        """Where subscribers connect."""

    @property
    def postgres_url(self) -> str:
        """Address of PostgreSQL, as its superuser."""

    def child(self, name: str) -> psutil.Process:
        """The process of a program."""

    async def is_healthy(self) -> bool:
        """Whether everything runs and works."""

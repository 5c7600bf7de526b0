"""The layouts of a deployment with Compose, and the lines of `.env` that select one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit


class Layout(StrEnum):
    """The number of NATS servers, and of replicas of each service."""

    SINGLE = "single"
    """One NATS server, and one of each service."""
    CLUSTER = "cluster"
    """Three NATS servers with every stream on each, and two of each service."""

    @classmethod
    def named(cls, text: str) -> Layout | None:
        """Return the layout of a NATS_CONFIG, or of the mark in a server's data; else None."""
        if text == SHARED_ACCOUNT:
            return cls.CLUSTER
        name = text.removesuffix(ACCOUNTS)
        return next((layout for layout in cls if layout == name), None)

    @property
    def config(self) -> str:
        """NATS_CONFIG of the layout: the configuration that its servers start with."""
        return self.mark if self is Layout.CLUSTER else self.value

    @property
    def mark(self) -> str:
        """The mark that its servers write into their data."""
        return f"{self}{ACCOUNTS}"

    @property
    def servers(self) -> Sequence[str]:
        """Names of the NATS servers in `compose.yaml`."""
        return SERVERS[: self.copies]

    @property
    def copies(self) -> int:
        """Number of replicas of every stream."""
        return 3 if self is Layout.CLUSTER else 1

    @property
    def nats_url(self) -> str:
        """NATS URL of the services."""
        return ",".join(f"nats://{server}:4222" for server in self.servers)

    def lines(self, profiles: str) -> Mapping[str, str | None]:
        """Return the variables of `.env` in this layout; None for a variable to remove.

        Args:
            profiles: the current `COMPOSE_PROFILES`, whose other profiles are kept.
        """
        others = [one for one in profiles.split(",") if one and one != Layout.CLUSTER]
        if self is Layout.SINGLE:
            return {**dict.fromkeys(VARIABLES), "COMPOSE_PROFILES": ",".join(others) or None}
        return {
            "COMPOSE_PROFILES": ",".join([*others, self]),
            "NATS_CONFIG": self.config,
            "NATS_REPLICAS": str(self.copies),
            "HOGSEND_NATS_URL": self.nats_url,
        }


SHARED_ACCOUNT = "cluster"
"""NATS_CONFIG of a cluster of an earlier version, in which all NATS users share one account."""
ACCOUNTS = "-accounts"
"""Suffix of a layout in which each user outside Hogsend has its own account."""
SERVERS = ("nats", "nats-2", "nats-3")
SHARED_PORT = "door"
"""Service that holds the port which two gateways share (deploy/shared-port.yaml)."""
VARIABLES = ("COMPOSE_PROFILES", "NATS_CONFIG", "NATS_REPLICAS", "HOGSEND_NATS_URL")
"""The variables that select the layout. They must agree with each other."""


@dataclass(frozen=True)
class Chosen:
    """The values of the four variables, as Compose has read them."""

    profiles: str
    config: str
    replicas: str
    nats_url: str

    def problem(self) -> str | None:
        """Return how they contradict each other; None if they agree."""
        hosts = {urlsplit(url.strip()).hostname or "" for url in self.nats_url.split(",")}
        layout = Layout.named(self.config)
        if layout is None:
            return (
                f"NATS_CONFIG is {self.config}, but must be "
                f"{Layout.SINGLE.config} or {Layout.CLUSTER.config}"
            )
        if not hosts & set(SERVERS):
            # External NATS servers, for which the operator chooses the number of replicas.
            return None
        clustered = Layout.CLUSTER in self.profiles.split(",")
        if (
            clustered != (layout is Layout.CLUSTER)
            or hosts != set(layout.servers)
            or self.replicas != str(layout.copies)
        ):
            return (
                f"{', '.join(VARIABLES)} contradict each other: some are for one NATS server, some "
                "for three"
            )
        return None

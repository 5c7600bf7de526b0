"""The layouts of a deployment with Compose, and the lines of `.env` that choose one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit


class Layout(StrEnum):
    """How many servers there are of NATS, and how many of each service."""

    SINGLE = "single"
    """One of everything."""
    CLUSTER = "cluster"
    """Three NATS servers with every stream on each, and two of each service."""

    @classmethod
    def named(cls, text: str) -> Layout | None:
        """The layout that NATS_CONFIG names, or that a server has marked its data with."""
        if text == SHARED_ACCOUNT:
            return cls.CLUSTER
        name = text.removesuffix(ACCOUNTS)
        return next((layout for layout in cls if layout == name), None)

    @property
    def config(self) -> str:
        """What NATS_CONFIG says: which configuration its servers start with."""
        return self.mark if self is Layout.CLUSTER else self.value

    @property
    def mark(self) -> str:
        """What its servers mark their data with."""
        return f"{self}{ACCOUNTS}"

    @property
    def servers(self) -> Sequence[str]:
        """The NATS servers, by the names that `compose.yaml` gives them."""
        return SERVERS[: self.copies]

    @property
    def copies(self) -> int:
        """How many copies of every stream there are."""
        return 3 if self is Layout.CLUSTER else 1

    @property
    def nats_url(self) -> str:
        """Where services find NATS."""
        return ",".join(f"nats://{server}:4222" for server in self.servers)

    def lines(self, profiles: str) -> Mapping[str, str | None]:
        """What `.env` says in this layout; None where it says nothing.

        Args:
            profiles: `COMPOSE_PROFILES` as it is, of which those of others are kept.
        """
        kept = [one for one in profiles.split(",") if one and one != Layout.CLUSTER]
        if self is Layout.SINGLE:
            return {**dict.fromkeys(VARIABLES), "COMPOSE_PROFILES": ",".join(kept) or None}
        return {
            "COMPOSE_PROFILES": ",".join([*kept, self]),
            "NATS_CONFIG": self.config,
            "NATS_REPLICAS": str(self.copies),
            "HOGSEND_NATS_URL": self.nats_url,
        }


SHARED_ACCOUNT = "cluster"
"""A cluster from before other people's services had NATS accounts of their own."""
ACCOUNTS = "-accounts"
"""Ends the name of a layout in which they have."""
SERVERS = ("nats", "nats-2", "nats-3")
DOOR = "door"
"""Has the port that two gateways share (deploy/shared-port.yaml); it is not replaced with them."""
VARIABLES = ("COMPOSE_PROFILES", "NATS_CONFIG", "NATS_REPLICAS", "HOGSEND_NATS_URL")
"""What chooses the layout, and goes together."""


@dataclass(frozen=True)
class Chosen:
    """The four variables, as Compose has read them."""

    profiles: str
    config: str
    replicas: str
    nats_url: str

    def problem(self) -> str | None:
        """Say where they do not go together; None when they do."""
        hosts = {urlsplit(url.strip()).hostname or "" for url in self.nats_url.split(",")}
        layout = Layout.named(self.config)
        if layout is None:
            return (
                f"NATS_CONFIG is {self.config}, and the layouts are "
                f"{Layout.SINGLE.config} and {Layout.CLUSTER.config}"
            )
        if not hosts & set(SERVERS):
            # Servers of the operator's own; how many copies they can hold is theirs to say.
            return None
        clustered = Layout.CLUSTER in self.profiles.split(",")
        if (
            clustered != (layout is Layout.CLUSTER)
            or hosts != set(layout.servers)
            or self.replicas != str(layout.copies)
        ):
            return (
                f"{', '.join(VARIABLES)} are not those of one layout: some say one NATS server, "
                "some three"
            )
        return None

"""Finds problems of NATS that need an operator: streams with too few copies, separate servers.

A service checks for them every few seconds, when it checks its streams, and reports them in its
health.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import closing, suppress
from urllib.parse import urlsplit

import msgspec
from nats.js import JetStreamContext
from nats.js.api import StreamInfo
from nats.js.errors import NotFoundError

from hogsend.contract.json_text import NOT_JSON
from hogsend.contract.streams import STREAMS, Limits
from hogsend.contract.users import User

INFO_SECONDS = 2.0
"""How long a server may take to send its `INFO` message."""
_DEFAULT_PORT = 4222

_problems: list[str] = []


class ServerInfo(msgspec.Struct, frozen=True):
    """The `INFO` message, which a NATS server sends when a connection is opened."""

    server_id: str
    cluster: str = ""
    connect_urls: tuple[str, ...] = ()
    """Addresses of all servers of its cluster."""

    def is_same_cluster(self, other: ServerInfo) -> bool:
        """Whether both servers belong to the same cluster, or are the same server."""
        if self.server_id == other.server_id:
            return True
        if self.cluster != other.cluster or not self.cluster:
            return False
        # Servers can be configured not to advertise addresses; then the name decides.
        addresses = set(self.connect_urls), set(other.connect_urls)
        return not all(addresses) or bool(addresses[0] & addresses[1])


def bus_problems() -> list[str]:
    """Return the problems that the last check found."""
    return list(_problems)


def store_problems(problems: Sequence[str]) -> None:
    """Store the result of a check, for `bus_problems`."""
    _problems[:] = problems


def is_without_leader(info: StreamInfo) -> bool:
    """Whether a stream accepts no messages, as too few servers are up or an election runs."""
    return info.cluster is not None and not info.cluster.leader


def current_copies(info: StreamInfo) -> int:
    """Return the number of reachable servers with an up-to-date copy of a stream."""
    peers = info.cluster.replicas if info.cluster and info.cluster.replicas else []
    current = sum(bool(peer.current) and not peer.offline for peer in peers)
    # The leader is not in the list of peers. Without a leader the list contains all servers.
    return current if is_without_leader(info) else 1 + current


async def find_problems(
    js: JetStreamContext, owner: User, limits: Limits, urls: Sequence[str]
) -> list[str]:
    """Check the copies of the streams that `owner` owns, and the servers in `NATS_URL`.

    Raises:
        nats.errors.Error: NATS does not respond.
        nats.js.errors.Error: JetStream does not respond.
    """
    problems = []
    for name, stream in STREAMS.items():
        if stream.owner is not owner:
            continue
        with suppress(NotFoundError):
            info = await js.stream_info(name)
            copies = current_copies(info)
            if is_without_leader(info):
                problems.append(
                    f"{name} accepts no messages: it has no leader, and {copies} of "
                    f"{limits.replicas} copies"
                )
            elif copies < limits.replicas:
                problems.append(f"{name} has {copies} of {limits.replicas} copies")
            elif (replicas := info.config.num_replicas or 1) > limits.replicas:
                problems.append(
                    f"{name} has {replicas} copies, more than NATS_REPLICAS={limits.replicas}"
                )
    if len(clusters := await _clusters(urls)) > 1:
        listed = "; ".join(", ".join(cluster) for cluster in clusters)
        problems.append(f"NATS_URL names servers that do not know one another: {listed}")
    return problems


async def _clusters(urls: Sequence[str]) -> list[list[str]]:
    """Return the servers that respond, grouped by cluster; nothing for a single address."""
    addresses = [
        (part.hostname or "localhost", part.port or _DEFAULT_PORT)
        for url in urls
        for part in [urlsplit(url.strip() if "://" in url else f"nats://{url.strip()}")]
    ]
    if len(addresses) == 1:
        return []
    infos = await asyncio.gather(*(_server_info(host, port) for host, port in addresses))
    clusters: list[tuple[ServerInfo, list[str]]] = []
    for (host, port), info in zip(addresses, infos, strict=True):
        if info is None:
            continue
        for first, members in clusters:
            if info.is_same_cluster(first):
                members.append(f"{host}:{port}")
                break
        else:
            clusters.append((info, [f"{host}:{port}"]))
    return [members for _, members in clusters]


async def _server_info(host: str, port: int) -> ServerInfo | None:
    """Read a server's `INFO`, which needs no login; None if it sends none that can be decoded."""
    try:
        async with asyncio.timeout(INFO_SECONDS):
            reader, writer = await asyncio.open_connection(host, port)
            with closing(writer):
                line = await reader.readline()
    except (OSError, TimeoutError, ValueError):
        return None
    try:
        return msgspec.json.decode(line.removeprefix(b"INFO "), type=ServerInfo)
    except NOT_JSON:
        return None

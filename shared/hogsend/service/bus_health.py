"""What a service sees of NATS that needs an operator: missing copies, and servers that are apart.

It is looked at every few seconds, beside the streams, and reported with the service's health.
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

GREETING_SECONDS = 2.0
"""How long a server may take to say what it is."""
_PORT = 4222

_problems: list[str] = []


class Greeting(msgspec.Struct, frozen=True):
    """What a NATS server says of itself when a connection is opened."""

    server_id: str
    cluster: str = ""
    connect_urls: tuple[str, ...] = ()
    """Addresses of all servers that it knows."""

    def is_with(self, other: Greeting) -> bool:
        """Whether both are of one group of servers."""
        if self.server_id == other.server_id:
            return True
        if self.cluster != other.cluster or not self.cluster:
            return False
        # They may be told to keep their addresses to themselves.
        known = set(self.connect_urls), set(other.connect_urls)
        return not all(known) or bool(known[0] & known[1])


def bus_problems() -> list[str]:
    """What needs an operator, as it was last seen; empty when nothing does."""
    return list(_problems)


def note(problems: Sequence[str]) -> None:
    """Remember what was seen."""
    _problems[:] = problems


def is_without_leader(info: StreamInfo) -> bool:
    """Whether no server takes a stream's messages: too few of them are up, or one is elected."""
    return info.cluster is not None and not info.cluster.leader


def current_copies(info: StreamInfo) -> int:
    """On how many servers that can be reached a stream is up to date."""
    others = info.cluster.replicas if info.cluster and info.cluster.replicas else []
    current = sum(bool(peer.current) and not peer.offline for peer in others)
    # Without a leader, who answers is listed with the others.
    return current if is_without_leader(info) else 1 + current


async def examine(
    js: JetStreamContext, owner: User, limits: Limits, urls: Sequence[str]
) -> list[str]:
    """Look at the copies of the streams that `owner` owns, and at the servers in `NATS_URL`.

    Raises:
        nats.errors.Error: NATS does not answer.
        nats.js.errors.Error: nor does JetStream.
    """
    found = []
    for name, stream in STREAMS.items():
        if stream.owner is not owner:
            continue
        with suppress(NotFoundError):
            info = await js.stream_info(name)
            copies = current_copies(info)
            if is_without_leader(info):
                found.append(
                    f"{name} takes nothing: it has no leader, and {copies} of {limits.replicas} "
                    "copies"
                )
            elif copies < limits.replicas:
                found.append(f"{name} has {copies} of {limits.replicas} copies")
            elif (wanted := info.config.num_replicas or 1) > limits.replicas:
                found.append(f"{name} is kept on {wanted} servers, NATS_REPLICAS says otherwise")
    if len(groups := await _groups(urls)) > 1:
        named = "; ".join(", ".join(group) for group in groups)
        found.append(f"NATS_URL names servers that do not know one another: {named}")
    return found


async def _groups(urls: Sequence[str]) -> list[list[str]]:
    """The servers that answer, by the groups they form."""
    places = [
        (part.hostname or "localhost", part.port or _PORT)
        for url in urls
        for part in [urlsplit(url.strip() if "://" in url else f"nats://{url.strip()}")]
    ]
    if len(places) == 1:
        return []
    greetings = await asyncio.gather(*(_greeting(host, port) for host, port in places))
    groups: list[tuple[Greeting, list[str]]] = []
    for (host, port), greeting in zip(places, greetings, strict=True):
        if greeting is None:
            continue
        for first, members in groups:
            if greeting.is_with(first):
                members.append(f"{host}:{port}")
                break
        else:
            groups.append((greeting, [f"{host}:{port}"]))
    return [members for _, members in groups]


async def _greeting(host: str, port: int) -> Greeting | None:
    """What a server says before anybody logs in; None when it says nothing that is understood."""
    try:
        async with asyncio.timeout(GREETING_SECONDS):
            reader, writer = await asyncio.open_connection(host, port)
            with closing(writer):
                line = await reader.readline()
    except (OSError, TimeoutError, ValueError):
        return None
    try:
        return msgspec.json.decode(line.removeprefix(b"INFO "), type=Greeting)
    except NOT_JSON:
        return None

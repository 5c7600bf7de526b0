"""Streams with fewer copies than they should have, and NATS servers that are apart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec
import pytest
from nats.js.api import ClusterInfo, PeerInfo, StreamConfig
from nats.js.errors import NotFoundError

from hogsend.contract.streams import STREAMS, Limits, StreamName
from hogsend.contract.users import User
from hogsend.service import bus_health
from hogsend.service.bus_health import examine

ONE = ["nats://127.0.0.1:1"]


class Info(msgspec.Struct):
    config: StreamConfig
    cluster: ClusterInfo | None


class JetStream:
    """Answers for one stream, EVENTS; the others are not there."""

    def __init__(
        self, peers: list[PeerInfo] | None, wanted: int, leader: str | None = "nats"
    ) -> None:
        self._info = Info(
            StreamConfig(num_replicas=wanted),
            None if peers is None else ClusterInfo(leader=leader, replicas=peers),
        )

    async def stream_info(self, name: str) -> Info:
        if name != StreamName.EVENTS:
            raise NotFoundError
        return self._info


def peer(*, current: bool = True, offline: bool = False) -> PeerInfo:
    return PeerInfo(name="nats-2", current=current, offline=offline)


@pytest.mark.parametrize(
    ("peers", "wanted", "replicas", "problem"),
    [
        (None, 1, 1, None),
        ([peer(), peer()], 3, 3, None),
        ([peer(), peer(offline=True)], 3, 3, "EVENTS has 2 of 3 copies"),
        ([peer(), peer(current=False)], 3, 3, "EVENTS has 2 of 3 copies"),
        (None, 1, 3, "EVENTS has 1 of 3 copies"),
        ([peer(), peer()], 3, 1, "EVENTS is kept on 3 servers, NATS_REPLICAS says otherwise"),
    ],
)
async def test_copies_that_are_missing_are_named(
    peers: list[PeerInfo] | None, wanted: int, replicas: int, problem: str | None
) -> None:
    js: Any = JetStream(peers, wanted)
    found = await examine(js, STREAMS[StreamName.EVENTS].owner, Limits(replicas), ONE)
    assert found == ([problem] if problem else [])
    # Each service looks at its own.
    assert await examine(js, User.CREDENTIALS, Limits(replicas), ONE) == []


async def test_a_stream_without_a_leader_takes_nothing() -> None:
    # As nats-server 2.15 answers while two of three servers are down: who answers is listed, too.
    peers = [peer(), peer(current=False), peer(current=False)]
    js: Any = JetStream(peers, 3, leader=None)
    found = await examine(js, STREAMS[StreamName.EVENTS].owner, Limits(3), ONE)
    assert found == ["EVENTS takes nothing: it has no leader, and 1 of 3 copies"]


@asynccontextmanager
async def servers(*greetings: Mapping[str, Any]) -> AsyncIterator[list[str]]:
    """Servers that say these things, by their addresses."""

    def saying(
        greeting: Mapping[str, Any],
    ) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
        async def say(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"INFO " + msgspec.json.encode(dict(greeting)) + b"\r\n")
            writer.close()

        return say

    async with AsyncExitStack() as stack:
        urls = []
        for greeting in greetings:
            server = await asyncio.start_server(saying(greeting), "127.0.0.1", 0)
            await stack.enter_async_context(server)
            urls.append(f"nats://u:p@127.0.0.1:{server.sockets[0].getsockname()[1]}")
        yield urls


TOGETHER = {"cluster": "hogsend", "connect_urls": ["10.0.0.1:4222", "10.0.0.2:4222"]}


@pytest.mark.parametrize(
    ("first", "second", "apart"),
    [
        ({**TOGETHER, "server_id": "A"}, {**TOGETHER, "server_id": "B"}, False),
        # Two names of one server.
        ({"server_id": "A"}, {"server_id": "A"}, False),
        ({"server_id": "A"}, {"server_id": "B"}, True),
        ({"server_id": "A"}, {**TOGETHER, "server_id": "B"}, True),
        ({"server_id": "A", "cluster": "other"}, {**TOGETHER, "server_id": "B"}, True),
        # One cluster by name, whose halves do not see each other.
        (
            {**TOGETHER, "server_id": "A"},
            {"server_id": "B", "cluster": "hogsend", "connect_urls": ["10.0.0.3:4222"]},
            True,
        ),
        # They keep their addresses to themselves.
        (
            {"server_id": "A", "cluster": "hogsend"},
            {"server_id": "B", "cluster": "hogsend"},
            False,
        ),
    ],
)
async def test_servers_that_do_not_know_one_another_are_named(
    first: Mapping[str, Any], second: Mapping[str, Any], apart: bool
) -> None:
    js: Any = JetStream(None, 1)
    async with servers(first, second) as urls:
        found = await examine(js, User.CREDENTIALS, Limits(), [*urls, "127.0.0.1:1"])
        assert bool(found) is apart
        if apart:
            (problem,) = found
            assert all(url.rpartition("@")[2] in problem for url in urls)
            assert "u:p" not in problem


def test_what_was_seen_last_is_what_is_reported() -> None:
    bus_health.note(["EVENTS has 2 of 3 copies"])
    assert bus_health.bus_problems() == ["EVENTS has 2 of 3 copies"]
    bus_health.note([])
    assert bus_health.bus_problems() == []

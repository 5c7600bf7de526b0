"""Streams with too few copies, and NATS servers that do not belong to one cluster."""

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
from hogsend.service.bus_health import find_problems

ONE = ["nats://127.0.0.1:1"]


class Info(msgspec.Struct):
    config: StreamConfig
    cluster: ClusterInfo | None


class JetStream:
    """Has one stream, EVENTS."""

    def __init__(
        self, peers: list[PeerInfo] | None, configured: int, leader: str | None = "nats"
    ) -> None:
        self._info = Info(
            StreamConfig(num_replicas=configured),
            None if peers is None else ClusterInfo(leader=leader, replicas=peers),
        )

    async def stream_info(self, name: str) -> Info:
        if name != StreamName.EVENTS:
            raise NotFoundError
        return self._info


def peer(*, current: bool = True, offline: bool = False) -> PeerInfo:
    return PeerInfo(name="nats-2", current=current, offline=offline)


@pytest.mark.parametrize(
    ("peers", "configured", "replicas", "problem"),
    [
        (None, 1, 1, None),
        ([peer(), peer()], 3, 3, None),
        ([peer(), peer(offline=True)], 3, 3, "EVENTS has 2 of 3 copies"),
        ([peer(), peer(current=False)], 3, 3, "EVENTS has 2 of 3 copies"),
        (None, 1, 3, "EVENTS has 1 of 3 copies"),
        ([peer(), peer()], 3, 1, "EVENTS has 3 copies, more than NATS_REPLICAS=1"),
    ],
)
async def test_copies_that_are_missing_are_named(
    peers: list[PeerInfo] | None, configured: int, replicas: int, problem: str | None
) -> None:
    js: Any = JetStream(peers, configured)
    found = await find_problems(js, STREAMS[StreamName.EVENTS].owner, Limits(replicas), ONE)
    assert found == ([problem] if problem else [])
    # Each service checks its own streams only.
    assert await find_problems(js, User.CREDENTIALS, Limits(replicas), ONE) == []


async def test_a_stream_without_a_leader_accepts_no_messages() -> None:
    # The reply of nats-server 2.15 while two of three servers are down lists all three as peers.
    peers = [peer(), peer(current=False), peer(current=False)]
    js: Any = JetStream(peers, 3, leader=None)
    found = await find_problems(js, STREAMS[StreamName.EVENTS].owner, Limits(3), ONE)
    assert found == ["EVENTS accepts no messages: it has no leader, and 1 of 3 copies"]


@asynccontextmanager
async def servers(*infos: Mapping[str, Any]) -> AsyncIterator[list[str]]:
    """Run servers that send these `INFO` messages, and yield their addresses."""

    def sender(
        info: Mapping[str, Any],
    ) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
        async def send(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"INFO " + msgspec.json.encode(dict(info)) + b"\r\n")
            writer.close()

        return send

    async with AsyncExitStack() as stack:
        urls = []
        for info in infos:
            server = await asyncio.start_server(sender(info), "127.0.0.1", 0)
            await stack.enter_async_context(server)
            urls.append(f"nats://u:p@127.0.0.1:{server.sockets[0].getsockname()[1]}")
        yield urls


CLUSTERED = {"cluster": "hogsend", "connect_urls": ["10.0.0.1:4222", "10.0.0.2:4222"]}


@pytest.mark.parametrize(
    ("first", "second", "apart"),
    [
        ({**CLUSTERED, "server_id": "A"}, {**CLUSTERED, "server_id": "B"}, False),
        # Two names of one server.
        ({"server_id": "A"}, {"server_id": "A"}, False),
        ({"server_id": "A"}, {"server_id": "B"}, True),
        ({"server_id": "A"}, {**CLUSTERED, "server_id": "B"}, True),
        ({"server_id": "A", "cluster": "other"}, {**CLUSTERED, "server_id": "B"}, True),
        # One cluster by name, whose halves are partitioned.
        (
            {**CLUSTERED, "server_id": "A"},
            {"server_id": "B", "cluster": "hogsend", "connect_urls": ["10.0.0.3:4222"]},
            True,
        ),
        # They advertise no addresses.
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
        found = await find_problems(js, User.CREDENTIALS, Limits(), [*urls, "127.0.0.1:1"])
        assert bool(found) is apart
        if apart:
            (problem,) = found
            assert all(url.rpartition("@")[2] in problem for url in urls)
            assert "u:p" not in problem


def test_the_result_of_the_last_check_is_reported() -> None:
    bus_health.store_problems(["EVENTS has 2 of 3 copies"])
    assert bus_health.bus_problems() == ["EVENTS has 2 of 3 copies"]
    bus_health.store_problems([])
    assert bus_health.bus_problems() == []

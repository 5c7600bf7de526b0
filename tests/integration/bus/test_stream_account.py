"""The account of the streams: the move into it at an upgrade, and its storage limit."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from nats.js.api import AckPolicy, ConsumerConfig, StreamConfig
from nats.js.errors import APIError

from cli.errors import CommandError
from cli.stack import nats, stream_account
from hogsend.contract.accounts import OWN
from hogsend.contract.errors import Unavailable
from hogsend.contract.permissions import permissions
from hogsend.contract.streams import DEFAULT_LIMITS, MIB, STREAMS, Limits, StreamName
from hogsend.contract.users import User
from hogsend.service.streams import hint, reconcile
from hogsend.transport.connection import Connection
from tests.ports import free_port
from tests.servers import _listens, _password
from tests.waiting import eventually


def write_earlier_config(file: Path, *, port: int, store: Path) -> None:
    """Write the configuration of version 0.1.0 and earlier: all users in one account."""
    operator = User.OPERATOR
    user = {
        "user": operator,
        "password": _password(operator),
        "permissions": permissions(operator).configured(),
    }
    config = {
        "listen": f"127.0.0.1:{port}",
        "jetstream": {"store_dir": str(store)},
        "authorization": {"users": [user]},
    }
    file.write_bytes(msgspec.json.encode(config))


@asynccontextmanager
async def operator(config: Path, port: int) -> AsyncIterator[Connection]:
    """Run a server, and connect to it as the operator."""
    with subprocess.Popen(nats.command(config), stderr=subprocess.DEVNULL) as process:  # noqa: ASYNC220
        try:
            await eventually(lambda: _listens(port))
            connection = Connection(
                User.OPERATOR, nats.url(User.OPERATOR, _password(User.OPERATOR), port)
            )
            await connection.open()
            yield connection
            await connection.close()
        finally:
            process.terminate()


async def test_streams_and_positions_of_consumers_survive_the_upgrade(tmp_path: Path) -> None:
    port, store, config = free_port(), tmp_path / "nats", tmp_path / "nats.conf"
    write_earlier_config(config, port=port, store=store)
    async with operator(config, port) as bus:
        await bus.js.add_stream(StreamConfig(name="EVENTS", subjects=["hogsend.events.*"]))
        await bus.js.add_consumer(
            "EVENTS", ConsumerConfig(durable_name="mine", ack_policy=AckPolicy.EXPLICIT)
        )
        for number in range(3):
            await bus.publish("hogsend.events.x", b"%d" % number, {})
        durable = await bus.js.pull_subscribe_bind("mine", "EVENTS")
        (first,) = await durable.fetch(1)
        await first.ack_sync()
    stream_account.adopt(store)
    passwords = {user: _password(user) for user in User}
    nats.write_config(config, port=port, store=store, passwords=passwords)
    async with operator(config, port) as bus:
        durable = await bus.js.pull_subscribe_bind("mine", "EVENTS")
        assert [message.data for message in await durable.fetch(2)] == [b"1", b"2"]
    # Later starts find nothing to move.
    stream_account.adopt(store)


async def test_a_full_account_accepts_messages_again_after_a_purge(tmp_path: Path) -> None:
    port, config = free_port(), tmp_path / "nats.conf"
    passwords = {user: _password(user) for user in User}
    nats.write_config(config, port=port, store=tmp_path / "nats", passwords=passwords)
    changed = msgspec.json.decode(config.read_bytes())
    changed["accounts"][OWN]["jetstream"]["max_file"] = 100_000
    config.write_bytes(msgspec.json.encode(changed))
    async with operator(config, port) as bus:
        stream = StreamConfig(name="EVENTS", subjects=["hogsend.events.*"], max_bytes=200_000)
        with pytest.raises(APIError) as refused:
            await bus.js.add_stream(stream)
        assert "max_file_store" in (hint(refused.value) or "")
        await bus.js.add_stream(stream.evolve(max_bytes=-1))
        await bus.publish("hogsend.events.x", b"x" * 90_000, {})
        with pytest.raises(Unavailable, match="resource limits exceeded"):
            await bus.publish("hogsend.events.x", b"x" * 90_000, {})
        await bus.js.purge_stream("EVENTS")
        await bus.publish("hogsend.events.x", b"x" * 90_000, {})


async def test_streams_shrink_to_a_lower_limit(tmp_path: Path) -> None:
    port, config, store = free_port(), tmp_path / "nats.conf", tmp_path / "nats"
    passwords = {user: _password(user) for user in User}
    small = Limits(max_bytes=64 * MIB)
    # The last start repeats the lower limits.
    for limits in (DEFAULT_LIMITS, small, small):
        nats.write_config(config, port=port, store=store, passwords=passwords, limits=limits)
        async with operator(config, port) as bus:
            for owner in {stream.owner for stream in STREAMS.values()}:
                await reconcile(bus.js, owner, limits)
            info = await bus.js.stream_info(StreamName.WEBHOOKS)
    assert info.config.max_bytes == small.max_bytes


async def test_a_start_succeeds_when_other_streams_reserve_the_rest_of_the_storage(
    tmp_path: Path,
) -> None:
    port, config = free_port(), tmp_path / "nats.conf"
    passwords = {user: _password(user) for user in User}
    nats.write_config(config, port=port, store=tmp_path / "nats", passwords=passwords)
    owners = {stream.owner for stream in STREAMS.values()}
    reserved = sum(
        max(DEFAULT_LIMITS.applied_to(stream.config).max_bytes or 0, 0)
        for stream in STREAMS.values()
    )
    async with operator(config, port) as bus:
        for owner in owners:
            await reconcile(bus.js, owner)
        rest = nats.max_file_store(DEFAULT_LIMITS) - reserved
        await bus.js.add_stream(StreamConfig(name="OWN", subjects=["own"], max_bytes=rest))
        for owner in owners:
            await reconcile(bus.js, owner)
        assert {info.config.name for info in await bus.js.streams_info()} == {*STREAMS, "OWN"}


def test_streams_of_two_versions_are_refused(tmp_path: Path) -> None:
    stream_account.adopt(tmp_path)
    for account in ("$G", "HOGSEND"):
        (tmp_path / "jetstream" / account).mkdir(parents=True)
    with pytest.raises(CommandError, match="streams of two versions") as raised:
        stream_account.adopt(tmp_path)
    assert "$G is of the earlier version" in str(raised.value.fix)

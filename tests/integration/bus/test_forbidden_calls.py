"""A call that a NATS user has no permission for fails at once, not after its deadline."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig

from cli.stack import nats as nats_server
from hogsend.client.client import Client
from hogsend.contract.consumers import API, MIRROR, OWN_API
from hogsend.contract.credentials import CREDENTIALS_STATUS, ProviderRef
from hogsend.contract.errors import Forbidden
from hogsend.contract.events import Event
from hogsend.contract.streams import StreamName
from hogsend.contract.users import User
from hogsend.faststream import HogsendBroker
from hogsend.transport import resubscriber
from hogsend.transport.connection import Connection
from hogsend.transport.consumer import Consumer
from hogsend.transport.errors import UNREACHABLE, RequestRefused
from hogsend.transport.jetstream import FailFastJetStream
from services.ingest.dead_letters.stream import DeadLetterStream
from services.ingest.replay.consumers import ReplayConsumers
from services.ingest.stored_messages import delete_message, read_batch
from tests.integration.harness import connected, consumer_api
from tests.ports import free_port
from tests.servers import Servers
from tests.waiting import PATIENCE_SECONDS, eventually

pytestmark = pytest.mark.usefixtures("fresh_bus")

LONG = 60.0
"""A deadline that no test waits for."""

Call = Callable[[Connection], Awaitable[object]]


async def request(connection: Connection) -> None:
    await connection.request(CREDENTIALS_STATUS, ProviderRef(provider_id="posthog"), deadline=LONG)


async def publish(connection: Connection) -> None:
    await connection.publish("hogsend.webhooks.posthog", b"{}", {}, within=LONG)


async def read_events(connection: Connection) -> None:
    await anext(Client(connection).events(durable="mine"))


async def create_consumer(connection: Connection) -> None:
    config = ConsumerConfig(durable_name="mine", deliver_subject="hogsend.rpc.ingest.purge")
    await Consumer(connection, StreamName.EVENTS, config, batch=1, adjust=False).ensure()


async def read_another_stream(connection: Connection) -> None:
    config = ConsumerConfig(durable_name="mine")
    await Consumer(connection, StreamName.WEBHOOKS, config, batch=1, adjust=False).ensure()


async def read_messages(connection: Connection) -> None:
    await read_batch(connection, StreamName.DEADLETTER, first=1)


async def delete_a_message(connection: Connection) -> None:
    await delete_message(connection, StreamName.DEADLETTER, 1)


async def read_dead_letters(connection: Connection) -> None:
    await DeadLetterStream(connection).extent()


async def list_durables(connection: Connection) -> None:
    await ReplayConsumers(connection).filters("mine")


async def read_a_durable(connection: Connection) -> None:
    await ReplayConsumers(connection).delete_acknowledged(MIRROR)


@pytest.fixture(autouse=True)
async def ingest(servers: Servers) -> AsyncIterator[None]:
    async with consumer_api(servers):
        yield


@pytest.mark.parametrize(
    "call",
    [
        *(request, publish, create_consumer, read_another_stream),
        *(read_messages, delete_a_message, read_dead_letters, list_durables),
        read_a_durable,
    ],
)
async def test_a_call_without_permission_raises_forbidden_at_once(
    servers: Servers, call: Call
) -> None:
    async with connected(servers, User.SUBSCRIBER) as connection, asyncio.timeout(LONG / 4):
        with pytest.raises(Forbidden):
            await call(connection)


@pytest.mark.parametrize("prefix", [API, OWN_API])
async def test_a_refused_request_of_nats_pys_jetstream_fails_at_once(
    servers: Servers, prefix: str
) -> None:
    async with connected(servers, User.GATEWAY) as connection, asyncio.timeout(LONG / 4):
        own = FailFastJetStream(connection.client, connection.refusals, prefix=OWN_API)
        js = connection.js if prefix == API else own
        # nats-py alone waits for this long, and then raises a timeout.
        js._timeout = LONG
        for _ in range(2):
            with pytest.raises(RequestRefused, match="'gateway' may not publish to"):
                await js.delete_stream(StreamName.PERSONS)


async def test_an_app_does_not_start_with_a_wrong_password(servers: Servers) -> None:
    right = servers.nats_url(User.SUBSCRIBER)
    host = right.rpartition("@")[2]
    for wrong, reason in ((f"nats://subscriber:wrong@{host}", "another"), (host, "app.env")):
        broker = HogsendBroker(wrong)

        @broker.events("signed_up")
        async def handle(event: Event) -> None:
            """Not called."""

        async with asyncio.timeout(LONG / 4):
            # A second start fails in the same way.
            for _ in range(2):
                with pytest.raises(Forbidden, match=f"refuses user 'subscriber'.*{reason}"):
                    await broker.start()


@pytest.mark.parametrize("call", [request, publish, read_events, read_messages, delete_a_message])
async def test_a_user_without_permission_for_its_inbox_gets_a_typed_error(
    servers: Servers, call: Call
) -> None:
    """The inbox prefix names the Connection's user; the NATS user that logs in is another one."""
    connection = Connection("stranger", servers.nats_url(User.GATEWAY))
    await connection.open()
    try:
        async with asyncio.timeout(LONG / 4):
            for _ in range(2):
                with pytest.raises(Forbidden, match="_INBOX_stranger"):
                    await call(connection)
    finally:
        await connection.close()


async def test_a_refused_subscription_is_retried_until_it_is_granted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resubscriber, "RETRY_SECONDS", 0.2)
    port, file, observed = free_port(), tmp_path / "nats.conf", list[str]()
    hook_calls = list[bool]()

    def write(*subjects: str) -> None:
        permissions = {"publish": [">"], "subscribe": list(subjects)}
        users = [{"user": User.GATEWAY, "password": "p", "permissions": permissions}]
        config = {"listen": f"127.0.0.1:{port}", "authorization": {"users": users}}
        file.write_text(json.dumps(config))

    async def respond(message: Msg) -> None:
        await message.respond(b"pong")

    async def record_call() -> None:
        hook_calls.append(True)

    async def is_granted() -> bool:
        try:
            await connection.request_raw("ping", b"", seconds=1)
        except (*UNREACHABLE, Forbidden):
            return False
        return True

    async def wait_for_refused_retries() -> None:
        observed.clear()
        # Both subscriptions were retried more than twice.
        await eventually(lambda: observed.count("error") > 2 * 2)
        assert not await is_granted()

    async def grant() -> None:
        hook_calls.clear()
        write(">")
        process.send_signal(signal.SIGHUP)
        await eventually(is_granted)
        await eventually(lambda: hook_calls)
        # The connection was not replaced.
        assert "disconnected" not in observed

    write("nothing")
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(nats_server.command(file), stderr=log)  # noqa: ASYNC220
    connection = Connection(
        User.GATEWAY,
        nats_server.url(User.GATEWAY, "p", port),
        observer=lambda event, _detail: observed.append(event),
    )
    try:
        await asyncio.wait_for(connection.open(), PATIENCE_SECONDS)
        connection.on_reconnect(record_call)
        await connection.client.subscribe("ping", cb=respond)
        assert not await is_granted()
        await wait_for_refused_retries()
        await grant()
        write("nothing")
        process.send_signal(signal.SIGHUP)
        await wait_for_refused_retries()
        await grant()
    finally:
        await connection.close()
        process.terminate()
        process.wait(60)


async def test_an_app_with_a_refused_subscription_does_not_start(servers: Servers) -> None:
    broker = HogsendBroker(servers.nats_url(User.SUBSCRIBER), logger=None)

    @broker.subscriber("hogsend.engagement.>")
    async def receive(body: bytes) -> None:
        """Never called."""

    with pytest.raises(Forbidden, match=r"'subscriber' may not subscribe to hogsend\.engagement"):
        await asyncio.wait_for(broker.start(), LONG / 4)
    await broker.stop()

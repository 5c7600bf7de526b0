"""Requests to a service that is frozen, slow, stopped or disconnected, on a virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import nats.errors
import pytest
from nats.aio.msg import Msg

from hogsend.contract.base import Empty
from hogsend.contract.errors import Unavailable
from hogsend.contract.headers import REQUEST_ID
from hogsend.contract.health import PROVISIONER_HEALTH
from hogsend.contract.provisioning import PROVISIONER_PROVISION, ProvisionLoop, ProvisionReply
from hogsend.contract.users import User
from hogsend.transport.connection import Connection
from hogsend.transport.request_watch import PING_SECONDS, SILENT_SECONDS, WATCH_SECONDS
from tests.virtual_time import now, on_virtual_time, settle

PING = "$SRV.PING.hogsend-provisioner"
HOURS = 10 * 3600.0
DONE = ProvisionReply()
IN_PROGRESS = b'{"name": "hogsend-provisioner", "inProgress": true}'
NOT_IN_PROGRESS = b'{"name": "hogsend-provisioner", "inProgress": false}'
EARLIER_VERSION = b'{"name": "hogsend-provisioner", "metadata": {}}'
FROZEN = "the provisioner service does not respond"


class FakeClient:
    """Stands in for nats-py's client. `replicas` returns the replies to a ping."""

    def __init__(self, replicas: Callable[[], list[bytes]]) -> None:
        self.replicas = replicas
        self.is_connected = True
        self.reply: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        """Reply to the request."""
        self.pings: list[tuple[str, dict[str, str]]] = []
        self.headers: dict[str, str] | None = None
        """Headers of the request."""
        self.is_cancelled = False
        self.subscriptions: dict[str, Callable[[Msg], None]] = {}
        self.last_reply: Msg | None = None
        """Arrives just before the server's PONG."""

    async def request(
        self, _subject: str, _body: bytes, *, timeout: float, headers: dict[str, str] | None
    ) -> Msg:
        self.headers = headers
        try:
            async with asyncio.timeout(timeout):
                return await self.reply
        except asyncio.CancelledError:
            self.is_cancelled = True
            raise
        except TimeoutError:
            raise nats.errors.TimeoutError from None

    async def publish(self, subject: str, *, reply: str, headers: dict[str, str]) -> None:
        self.pings.append((subject, headers))
        for data in self.replicas():
            asyncio.get_running_loop().call_soon(
                self.subscriptions[reply],
                Msg(self, reply, data=data),  # type: ignore[arg-type]
            )

    async def subscribe_inline(self, inbox: str, on_message: Callable[[Msg], None]) -> Any:
        self.subscriptions[inbox] = on_message
        client = self

        class Subscription:
            async def unsubscribe(self) -> None:
                del client.subscriptions[inbox]

        return Subscription()

    async def flush(self, _seconds: int = 10) -> None:
        if self.last_reply is not None and not self.reply.done():
            self.reply.set_result(self.last_reply)
            await settle()

    def new_inbox(self) -> str:
        return "_INBOX_gateway.1"


class FakeConnection(Connection):
    """A connection to replicas whose replies to pings a test chooses."""

    def __init__(self, replicas: Callable[[], list[bytes]]) -> None:
        super().__init__(User.GATEWAY, "nats://127.0.0.1:1")
        self.fake = self.client = FakeClient(replicas)  # type: ignore[assignment]

    def start(self) -> asyncio.Task[ProvisionReply]:
        """Send a request that may take hours."""
        return asyncio.create_task(
            self.request(PROVISIONER_PROVISION, ProvisionLoop(), deadline=HOURS)
        )

    def message(self) -> Msg:
        """Return the reply to the request."""
        return Msg(self.fake, "", data=msgspec.json.encode(DONE))  # type: ignore[arg-type]

    def reply(self) -> None:
        """Reply to the request."""
        self.fake.reply.set_result(self.message())


async def fails(request: asyncio.Task[ProvisionReply], text: str) -> None:
    """Check that a request fails with `text`, long before its deadline."""
    with pytest.raises(Unavailable, match=text):
        await request
    assert now() < HOURS / 10


@on_virtual_time
async def test_no_ping_is_sent_for_a_request_that_is_answered_in_time() -> None:
    connection = FakeConnection(list)
    request = connection.start()
    await asyncio.sleep(WATCH_SECONDS * 0.9)
    connection.reply()
    assert await request == DONE
    await asyncio.sleep(HOURS)
    assert connection.fake.pings == []


@on_virtual_time
async def test_a_request_with_a_short_deadline_has_no_id_and_sends_no_ping() -> None:
    connection = FakeConnection(list)
    with pytest.raises(Unavailable, match="did not answer within 2 s"):
        await connection.request(PROVISIONER_HEALTH, Empty())
    assert (connection.fake.headers, connection.fake.pings) == (None, [])


@on_virtual_time
async def test_a_request_to_a_frozen_service_fails_although_its_deadline_is_hours() -> None:
    connection = FakeConnection(list)
    await fails(connection.start(), f"{FROZEN}; it may still carry out the request")
    await settle()
    assert connection.fake.is_cancelled
    assert connection.fake.subscriptions == {}


@on_virtual_time
async def test_every_ping_names_the_request() -> None:
    connection = FakeConnection(list)
    await fails(connection.start(), FROZEN)
    sent = connection.fake.headers
    assert sent is not None
    assert connection.fake.pings == [(PING, {REQUEST_ID: sent[REQUEST_ID]})] * round(
        SILENT_SECONDS / PING_SECONDS
    )


@pytest.mark.parametrize("reply", [IN_PROGRESS, EARLIER_VERSION])
@on_virtual_time
async def test_a_request_waits_while_a_replica_works_on_it_or_cannot_tell(reply: bytes) -> None:
    connection = FakeConnection(lambda: [NOT_IN_PROGRESS, reply])
    request = connection.start()
    await asyncio.sleep(HOURS / 2000)
    assert len(connection.fake.pings) > 3
    connection.reply()
    assert await request == DONE
    await settle()
    assert connection.fake.subscriptions == {}


@on_virtual_time
async def test_a_request_fails_when_the_replica_that_has_it_freezes_later() -> None:
    replies = [NOT_IN_PROGRESS, IN_PROGRESS]
    connection = FakeConnection(lambda: replies)
    request = connection.start()
    await asyncio.sleep(10)
    replies.pop()
    await fails(request, "the replica of the provisioner service that received the request")


@pytest.mark.parametrize("reply", [b"", b"{", b"\xff", b'{"inProgress": "no"}'])
@on_virtual_time
async def test_an_unreadable_reply_to_a_ping_does_not_count(reply: bytes) -> None:
    await fails(FakeConnection(lambda: [reply]).start(), FROZEN)


@on_virtual_time
async def test_a_busy_replica_that_replies_to_a_later_ping_keeps_the_request() -> None:
    connection = FakeConnection(list)
    connection.fake.replicas = lambda: [IN_PROGRESS] if len(connection.fake.pings) % 3 == 0 else []
    request = connection.start()
    await asyncio.sleep(60)
    connection.reply()
    assert await request == DONE


@on_virtual_time
async def test_the_reply_that_arrives_before_the_verdict_is_returned() -> None:
    connection = FakeConnection(list)
    connection.fake.last_reply = connection.message()
    assert await connection.start() == DONE


@on_virtual_time
async def test_a_delay_of_this_process_does_not_count_as_silence() -> None:
    loop: Any = asyncio.get_running_loop()
    connection = FakeConnection(list)

    def block_for_a_minute() -> None:
        loop._clock.now += 60
        connection.fake.replicas = lambda: [IN_PROGRESS]

    loop.call_later(WATCH_SECONDS + PING_SECONDS / 2, block_for_a_minute)
    request = connection.start()
    await asyncio.sleep(120)
    connection.reply()
    assert await request == DONE


@on_virtual_time
async def test_a_request_fails_while_nats_is_disconnected() -> None:
    connection = FakeConnection(lambda: [IN_PROGRESS])
    request = connection.start()
    await asyncio.sleep(5)
    connection.fake.is_connected = False
    await fails(request, "NATS did not answer")


@on_virtual_time
async def test_a_service_has_time_to_reconnect_after_a_restart_of_nats() -> None:
    connection = FakeConnection(lambda: [IN_PROGRESS])
    request = connection.start()
    await asyncio.sleep(5)
    connection.fake.is_connected = False
    await asyncio.sleep(SILENT_SECONDS - PING_SECONDS)
    connection.fake.is_connected, connection.fake.replicas = True, list
    await asyncio.sleep(SILENT_SECONDS - PING_SECONDS)
    connection.fake.replicas = lambda: [IN_PROGRESS]
    await asyncio.sleep(60)
    connection.reply()
    assert await request == DONE


@on_virtual_time
async def test_a_request_waits_for_its_deadline_where_the_server_refuses_pings() -> None:
    connection = FakeConnection(list)
    request = connection.start()
    await asyncio.sleep(WATCH_SECONDS)
    await settle()
    # nats-py passes the server's text on in lower case.
    text = f'permissions violation for publish to "{PING.lower()}"'
    connection.refusals.process_error(text)
    await asyncio.sleep(HOURS / 2000)
    assert len(connection.fake.pings) == 1, "each refusal is logged"
    # The next server may have another configuration.
    connection.refusals.reset()
    await fails(request, FROZEN)


@on_virtual_time
async def test_a_cancelled_request_is_no_longer_watched() -> None:
    connection = FakeConnection(lambda: [IN_PROGRESS])
    request = connection.start()
    await asyncio.sleep(10)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    await settle()
    pings = len(connection.fake.pings)
    await asyncio.sleep(60)
    assert (len(connection.fake.pings), connection.fake.subscriptions) == (pings, {})


@on_virtual_time
async def test_a_request_fails_when_the_connection_is_closed() -> None:
    connection = FakeConnection(list)

    async def closed(*_: Any) -> None:
        raise nats.errors.ConnectionClosedError

    connection.fake.subscribe_inline = closed  # type: ignore[assignment,method-assign]
    await fails(connection.start(), "NATS cannot be reached")

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
from hogsend.contract.discovery import MAX_PING_BYTES, PingQuery
from hogsend.contract.errors import Unavailable
from hogsend.contract.headers import REQUEST_ID
from hogsend.contract.health import PROVISIONER_HEALTH
from hogsend.contract.provisioning import PROVISIONER_PROVISION, ProvisionLoop, ProvisionReply
from hogsend.contract.users import User
from hogsend.transport.connection import Connection
from hogsend.transport.request_watch import (
    MAX_IDS,
    OFFLINE_SECONDS,
    PING_SECONDS,
    SILENT_SECONDS,
    WATCH_SECONDS,
)
from tests.virtual_time import now, on_virtual_time, settle

PING = "$SRV.PING.hogsend-provisioner"
HOURS = 10 * 3600.0
DONE = ProvisionReply()
IN_PROGRESS = b'{"name": "hogsend-provisioner", "inProgress": NAMED}'
"""The fake client replaces `NAMED` by the ids in the ping."""
NOT_IN_PROGRESS = b'{"name": "hogsend-provisioner", "inProgress": []}'
EARLIER_VERSION = b'{"name": "hogsend-provisioner", "metadata": {}}'
FROZEN = "the provisioner service does not respond"


class FakeClient:
    """Stands in for nats-py's client. `replicas` returns the replies to a ping."""

    def __init__(self, replicas: Callable[[], list[bytes]]) -> None:
        self.replicas = replicas
        self.is_connected = True
        self.reply: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        """Reply to the request."""
        self.pings: list[list[str]] = []
        """The ids in each ping."""
        self.headers: list[dict[str, str] | None] = []
        """Headers of each request."""
        self.is_cancelled = False
        self.subscriptions: dict[str, Callable[[Msg], None]] = {}
        self.last_reply: Msg | None = None
        """Arrives just before the server's PONG."""

    async def request(
        self, _subject: str, _body: bytes, *, timeout: float, headers: dict[str, str] | None
    ) -> Msg:
        self.headers.append(headers)
        try:
            async with asyncio.timeout(timeout):
                return await asyncio.shield(self.reply)
        except asyncio.CancelledError:
            self.is_cancelled = True
            raise
        except TimeoutError:
            raise nats.errors.TimeoutError from None

    async def publish(self, subject: str, body: bytes, *, reply: str) -> None:
        assert subject == PING
        self.pings.append(named := msgspec.json.decode(body, type=PingQuery).requests)
        for template in self.replicas():
            data = template.replace(b"NAMED", msgspec.json.encode(named))
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

    def ids(self) -> list[str]:
        """Return the ids of all requests."""
        return [headers[REQUEST_ID] for headers in self.fake.headers if headers]

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
    errors = list[Any]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    connection = FakeConnection(list)
    request = connection.start()
    await asyncio.sleep(WATCH_SECONDS * 0.9)
    connection.reply()
    assert await request == DONE
    await asyncio.sleep(HOURS)
    assert (connection.fake.pings, errors) == ([], [])


@on_virtual_time
async def test_a_request_with_a_short_deadline_has_no_id_and_sends_no_ping() -> None:
    connection = FakeConnection(list)
    with pytest.raises(Unavailable, match="did not answer within 2 s"):
        await connection.request(PROVISIONER_HEALTH, Empty())
    assert (connection.fake.headers, connection.fake.pings) == ([None], [])


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
    assert connection.fake.pings == [connection.ids()] * round(SILENT_SECONDS / PING_SECONDS)


@on_virtual_time
async def test_slow_requests_share_their_pings() -> None:
    connection = FakeConnection(lambda: [IN_PROGRESS])
    requests = [connection.start() for _ in range(2 * MAX_IDS + 1)]
    await asyncio.sleep(WATCH_SECONDS)
    await settle()
    assert [len(ids) for ids in connection.fake.pings] == [MAX_IDS, MAX_IDS, 1]
    assert len(msgspec.json.encode(PingQuery(requests=connection.fake.pings[0]))) < MAX_PING_BYTES
    named = [id for ids in connection.fake.pings for id in ids]
    assert sorted(named) == sorted(connection.ids())
    connection.reply()
    assert await asyncio.gather(*requests) == [DONE] * len(requests)


@on_virtual_time
async def test_only_the_requests_of_a_frozen_replica_fail() -> None:
    connection = FakeConnection(list)
    lost, kept = connection.start(), connection.start()
    await settle()
    id = connection.ids()[1]
    connection.fake.replicas = lambda: [msgspec.json.encode({"inProgress": [id]})]
    await fails(lost, "the replica of the provisioner service that received the request")
    await asyncio.sleep(60)
    assert connection.fake.pings[-1] == [id]
    connection.reply()
    assert await kept == DONE


@on_virtual_time
async def test_no_ping_is_sent_while_many_requests_are_answered_in_time() -> None:
    connection = FakeConnection(list)
    connection.reply()
    for _ in range(20):
        first = connection.start()
        await asyncio.sleep(WATCH_SECONDS / 3)
        second = connection.start()
        assert [await first, await second] == [DONE, DONE]
    assert connection.fake.pings == []


@on_virtual_time
async def test_a_request_that_starts_during_the_pings_of_another_one_is_watched() -> None:
    connection = FakeConnection(lambda: [IN_PROGRESS])
    first = connection.start()
    await asyncio.sleep(WATCH_SECONDS * 1.5)
    second = connection.start()
    await asyncio.sleep(60)
    connection.fake.replicas = list
    await asyncio.gather(fails(first, FROZEN), fails(second, FROZEN))


@on_virtual_time
async def test_a_request_is_watched_after_the_pings_of_an_earlier_one_have_ended() -> None:
    connection = FakeConnection(lambda: [IN_PROGRESS])
    first = connection.start()
    await asyncio.sleep(WATCH_SECONDS + PING_SECONDS / 2)
    second = connection.start()
    await settle()
    first.cancel()
    await asyncio.sleep(PING_SECONDS)
    assert connection.fake.subscriptions == {}
    connection.fake.replicas = list
    await fails(second, FROZEN)


@on_virtual_time
async def test_a_request_that_starts_as_the_only_slow_one_ends_is_pinged_once_at_a_time() -> None:
    connection = FakeConnection(list)
    first = connection.start()
    await asyncio.sleep(WATCH_SECONDS + PING_SECONDS / 2)
    first.cancel()
    second = connection.start()
    await settle()
    connection.fake.pings.clear()
    await fails(second, FROZEN)
    assert len(connection.fake.pings) == round(SILENT_SECONDS / PING_SECONDS)


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
    await fails(request, "NATS was disconnected for 5 s")


@on_virtual_time
async def test_a_request_fails_while_nats_does_not_answer() -> None:
    connection = FakeConnection(list)

    async def frozen(_seconds: int = 10) -> None:
        raise nats.errors.FlushTimeoutError

    connection.fake.flush = frozen  # type: ignore[method-assign]
    await fails(connection.start(), "NATS did not answer within 2 s")


@on_virtual_time
async def test_a_service_has_time_to_reconnect_after_a_restart_of_nats() -> None:
    connection = FakeConnection(lambda: [IN_PROGRESS])
    request = connection.start()
    await asyncio.sleep(5)
    connection.fake.is_connected = False
    await asyncio.sleep(OFFLINE_SECONDS - PING_SECONDS)
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

"""What others publish stops nobody, whatever they write for subject and headers."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hogsend.contract import subjects
from hogsend.contract.base import Empty
from hogsend.contract.consumers import API
from hogsend.contract.headers import CORRELATION_ID, MESSAGE_ID, TRACEPARENT, message_id
from hogsend.contract.health import INGEST_HEALTH
from hogsend.contract.users import User
from hogsend.transport.connection import Connection
from tests.integration.harness import connected
from tests.integration.ingest.driver import Driver
from tests.servers import Servers

LARGEST_HEADER = 65_400
"""Characters that JetStream takes in all headers of a message, without room for those of ours."""
ODD = [b"\xff\xfe", b"a\x0cb", b"a\x0bb", b"a\rb", b"a\x00b", b"*", b">", b"a" * 3000]


async def write(connection: Connection, subject: bytes, body: bytes) -> None:
    """Publish as no client library would."""
    transport: Any = connection.client._transport
    transport.write(b"PUB %b %d\r\n%b\r\n" % (subject, len(body), body))
    await connection.flush()


async def test_engagement_on_any_subject_is_set_aside_and_what_follows_is_stored(
    driver: Driver, servers: Servers
) -> None:
    async with driver.replica(), connected(servers, User.APP) as app:
        for odd in ODD:
            await write(app, b"hogsend.engagement." + odd, b'{"data":{"userId":"anna"}}')
        body = {"id": "r-1", "data": {"userId": "anna", "to": "a@b.com"}}
        await driver.operator.js.publish(
            subjects.engagement("email.opened"), msgspec.json.encode(body)
        )
        letters = await driver.dead_letters(len(ODD))
    assert {letter.stream for letter in letters} == {"ENGAGEMENT"}
    assert "hogsend.engagement.\ufffd\ufffd" in {letter.subject for letter in letters}
    assert await driver.count("events") == 1


async def test_a_large_message_whose_headers_a_letter_cannot_hold_is_set_aside_all_the_same(
    driver: Driver, servers: Servers
) -> None:
    body = b'{"data":{"userId":"anna","text":"' + b"x" * 7_000_000
    async with driver.replica(), connected(servers, User.APP) as app:
        report = subjects.engagement("email.opened")
        await app.publish(report, body, {"odd": "\x01" * 64_000, MESSAGE_ID: "m-1"})
        (letter,) = await driver.dead_letters(1)
    assert letter.body == body
    assert message_id(letter.headers) == "m-1"


@pytest.mark.parametrize("name", [CORRELATION_ID, TRACEPARENT])
async def test_engagement_whose_headers_leave_no_room_for_the_events_own_is_published(
    driver: Driver, servers: Servers, name: str
) -> None:
    async with driver.replica(), connected(servers, User.APP) as app:
        report = subjects.engagement("email.opened")
        await app.publish(report, b'{"data":{"userId":"anna"}}', {name: "x" * LARGEST_HEADER})
        (event,) = await driver.events(1)
    assert event.user_id == "anna"


@pytest.mark.parametrize("odd", ODD)
async def test_a_consumer_asked_for_on_any_subject_costs_ingest_no_connection(
    driver: Driver, servers: Servers, odd: bytes
) -> None:
    async with driver.answering() as ingest, connected(servers, User.SUBSCRIBER) as subscriber:
        await write(subscriber, f"{API}.CONSUMER.CREATE.EVENTS.mine.".encode() + odd, b"{}")
        await driver.gateway.request(INGEST_HEALTH, Empty())
        assert ingest.link.client.stats["reconnects"] == 0

"""No subject or header that an external user publishes stops ingest."""

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
"""Characters that JetStream accepts in all headers of a message; no other header fits."""
ODD = [b"\xff\xfe", b"a\x0cb", b"a\x0bb", b"a\rb", b"a\x00b", b"*", b">", b"a" * 3000]


async def write(connection: Connection, subject: bytes, body: bytes) -> None:
    """Publish on a subject that client libraries refuse."""
    transport: Any = connection.client._transport
    transport.write(b"PUB %b %d\r\n%b\r\n" % (subject, len(body), body))
    await connection.flush()


async def test_engagement_on_an_invalid_subject_is_dead_lettered_and_later_reports_are_stored(
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


async def test_a_large_message_is_dead_lettered_although_its_headers_do_not_fit(
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
async def test_engagement_with_headers_of_the_largest_size_is_published_as_an_event(
    driver: Driver, servers: Servers, name: str
) -> None:
    async with driver.replica(), connected(servers, User.APP) as app:
        report = subjects.engagement("email.opened")
        await app.publish(report, b'{"data":{"userId":"anna"}}', {name: "x" * LARGEST_HEADER})
        (event,) = await driver.events(1)
    assert event.user_id == "anna"


@pytest.mark.parametrize("odd", ODD)
async def test_a_consumer_request_on_an_invalid_subject_does_not_disconnect_ingest(
    driver: Driver, servers: Servers, odd: bytes
) -> None:
    async with (
        driver.serving_requests() as ingest,
        connected(servers, User.SUBSCRIBER) as subscriber,
    ):
        await write(subscriber, f"{API}.CONSUMER.CREATE.EVENTS.mine.".encode() + odd, b"{}")
        await driver.gateway.request(INGEST_HEALTH, Empty())
        assert ingest.link.client.stats["reconnects"] == 0

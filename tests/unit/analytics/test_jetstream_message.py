"""A message of JetStream, as delivery handles it."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import nats.errors
import pytest
from nats.aio.msg import Msg

from hogsend.contract.dead_letters import DeadLetter, read_letter
from hogsend.contract.errors import TooLarge, Unavailable
from hogsend.contract.headers import RECEIVED_AT, format_time
from hogsend.service.dead_letters import DeadLetters, Unprocessable
from hogsend.transport.in_flight import InFlightMessages
from hogsend.transport.publisher import OutgoingMessage, Publisher
from services.analytics.delivery.jetstream_message import JetStreamMessage, wrap_messages
from tests.unit.analytics.fakes import FakeLink

REPLY = "$JS.ACK.ENGAGEMENT.destination-1.3.70.7.1750000000000000000.5"
WHY = Unprocessable("refused", "HTTP 400")


class FakeClient:
    """A client that only publishes."""

    def __init__(self) -> None:
        self.published: list[tuple[str, bytes]] = []
        self.broken = False

    async def publish(self, subject: str, payload: bytes = b"", **_more: Any) -> None:
        if self.broken:
            raise nats.errors.ConnectionReconnectingError
        self.published.append((subject, payload))


class FakePublisher(Publisher):
    """Accepts published messages up to a size."""

    def __init__(self, limit: int = 1_000_000) -> None:
        self.limit = limit
        self.letters: list[DeadLetter] = []

    async def publish(self, message: OutgoingMessage, *, within: float = 2.0) -> None:
        del within
        if len(message.body) > self.limit:
            raise TooLarge("too large")
        self.letters.append(read_letter(message.headers, message.body))


def message(
    client: FakeClient, publisher: Publisher | None = None, body: bytes = b"{}"
) -> JetStreamMessage:
    raw = Msg(client, subject="hogsend.engagement.email.sent", reply=REPLY, data=body)  # type: ignore[arg-type]
    (wrapped,) = wrap_messages([raw], DeadLetters(publisher or FakePublisher(), "analytics"))
    return wrapped


def test_a_message_has_its_stream_position_and_consumer() -> None:
    delivered = message(FakeClient())
    assert (delivered.durable, delivered.deliveries, delivered.position, delivered.pending) == (
        "destination-1",
        3,
        70,
        5,
    )
    assert (delivered.subject, delivered.body, delivered.headers) == (
        "hogsend.engagement.email.sent",
        b"{}",
        {},
    )
    assert delivered.queued_at.year == 2025


async def test_a_message_is_acknowledged_once() -> None:
    client = FakeClient()
    delivered = message(client)
    await delivered.ack()
    await delivered.ack()
    assert client.published == [(REPLY, b"")]


@pytest.mark.parametrize("settle", [JetStreamMessage.ack, lambda message: message.nak(5)])
async def test_a_message_whose_ack_or_nak_fails_is_redelivered(
    settle: Callable[[JetStreamMessage], Awaitable[None]],
) -> None:
    """Otherwise its heartbeats would prevent JetStream from redelivering it."""
    client = FakeClient()
    delivered = message(client)
    in_flight = InFlightMessages(FakeLink(), lambda _what, _error: None)
    in_flight.add([delivered._message])
    client.broken = True
    with pytest.raises(Unavailable):
        await settle(delivered)
    assert len(in_flight) == 0


async def test_a_message_is_naked_with_a_delay() -> None:
    client = FakeClient()
    await message(client).nak(5)
    assert client.published == [(REPLY, b'-NAK {"delay": 5000000000}')]


NO_GZIP = hashlib.shake_128(b"").digest(5000)
"""Bytes that cannot be compressed."""


@pytest.mark.parametrize(
    ("limit", "body", "kept"),
    [
        (1_000_000, NO_GZIP, NO_GZIP),
        (6000, NO_GZIP, NO_GZIP),
        (2000, b"x" * 5000, b"x" * 5000),
        (2000, NO_GZIP, b""),
    ],
    ids=["in base64", "as it is", "compressed", "not at all"],
)
async def test_a_dead_letter_keeps_its_body_if_any_encoding_of_it_fits(
    limit: int, body: bytes, kept: bytes
) -> None:
    publisher = FakePublisher(limit)
    delivered = message(FakeClient(), publisher, body)
    await delivered.publish_dead_letter(WHY, attempts=2, headers={"Hogsend-Destination": "1"})
    assert [letter.body for letter in publisher.letters] == [kept]
    (letter,) = publisher.letters
    assert (letter.id, letter.reason, letter.attempts) == (
        "ENGAGEMENT:70:destination-1",
        "refused",
        2,
    )
    assert letter.headers["Hogsend-Destination"] == "1"
    # A replayed message keeps its time of receipt.
    assert letter.headers[RECEIVED_AT] == format_time(delivered.queued_at)


async def test_a_dead_letter_that_does_not_fit_at_all_is_an_error() -> None:
    with pytest.raises(TooLarge):
        await message(FakeClient(), FakePublisher(-1)).publish_dead_letter(
            WHY, attempts=1, headers={}
        )

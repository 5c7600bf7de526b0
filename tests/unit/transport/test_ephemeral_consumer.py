"""A consumer that is not durable, as JetStream answers about it while its server is away."""

from __future__ import annotations

import json
from typing import Any, cast

import nats.errors
import pytest
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from hogsend.transport.connection import Connection
from hogsend.transport.ephemeral_consumer import EphemeralConsumer

WANTED = ConsumerConfig(
    filter_subject="hogsend.events.*",
    ack_policy=AckPolicy.EXPLICIT,
    deliver_policy=DeliverPolicy.NEW,
)
OFFLINE = {"error": {"code": 500, "err_code": 10119, "description": "consumer is offline"}}
NOT_FOUND = {"error": {"code": 404, "err_code": 10014, "description": "consumer not found"}}


class JetStream:
    """A connection on which JetStream answers."""

    def __init__(self) -> None:
        self.made: list[dict[str, Any]] = []
        self.state: dict[str, Any] | Exception | None = None
        """What it says of a consumer that is there."""
        self.takes = True
        self.stream: dict[str, Any] = {
            "created": "2026-11-24T00:00:00Z",
            "state": {"last_seq": 90},
        }
        self.now = "2026-11-25T00:00:00Z"

    async def request_raw(self, subject: str, body: bytes, **_more: object) -> Msg:
        match subject.split(".")[2:4]:
            case ["CONSUMER", "CREATE"]:
                self.made.append(json.loads(body)["config"])
                if not self.takes:
                    raise nats.errors.TimeoutError
                answer = self._made()
            case ["STREAM", "INFO"]:
                answer = self.stream
            case _:
                if isinstance(self.state, Exception):
                    raise self.state
                answer = self.state or self._made()
        return Msg(cast("Any", None), data=json.dumps(answer).encode())

    def _made(self) -> dict[str, Any]:
        name = self.made[-1]["name"]
        return {"name": name, "created": self.now, "delivered": {"stream_seq": 40}}


@pytest.fixture
def jetstream() -> JetStream:
    return JetStream()


@pytest.fixture
def consumer(jetstream: JetStream) -> EphemeralConsumer:
    return EphemeralConsumer(cast("Connection", jetstream), "EVENTS", WANTED)


async def test_one_that_is_there_is_found_again(
    jetstream: JetStream, consumer: EphemeralConsumer
) -> None:
    first, again = await consumer.found(), await consumer.found()
    assert first.name == again.name
    assert len(jetstream.made) == 1


@pytest.mark.parametrize("state", [OFFLINE, nats.errors.TimeoutError()])
async def test_one_whose_server_is_away_is_made_under_another_name_behind_what_is_done(
    jetstream: JetStream, consumer: EphemeralConsumer, state: Any
) -> None:
    first = await consumer.found()
    consumer.done(47)
    jetstream.state = state
    again = await consumer.found()
    assert first.name != again.name
    assert jetstream.made[-1]["deliver_policy"] == "by_start_sequence"
    assert jetstream.made[-1]["opt_start_seq"] == 48


async def test_one_that_was_forgotten_is_made_again(
    jetstream: JetStream, consumer: EphemeralConsumer
) -> None:
    await consumer.found()
    jetstream.state = NOT_FOUND
    await consumer.found()
    # Behind what was there when it was made first.
    assert jetstream.made[-1]["opt_start_seq"] == 41


async def test_a_stream_that_was_made_again_is_read_from_its_beginning_once(
    jetstream: JetStream, consumer: EphemeralConsumer
) -> None:
    await consumer.found()
    consumer.done(47)
    jetstream.state = NOT_FOUND
    jetstream.stream = {"created": "2026-11-26T00:00:00Z", "state": {"last_seq": 9}}
    jetstream.now = "2026-11-27T00:00:00Z"
    await consumer.found()
    assert jetstream.made[-1]["deliver_policy"] == "all"
    consumer.done(3)
    await consumer.found()
    assert jetstream.made[-1]["opt_start_seq"] == 4


async def test_one_whose_stream_is_gone_is_asked_for_again_later(
    jetstream: JetStream, consumer: EphemeralConsumer
) -> None:
    await consumer.found()
    consumer.done(47)
    jetstream.state, stream = NOT_FOUND, jetstream.stream
    jetstream.stream = {"error": {"code": 404, "err_code": 10059, "description": "no stream"}}
    with pytest.raises(nats.errors.Error, match="no stream EVENTS"):
        await consumer.found()
    jetstream.stream = stream
    await consumer.found()
    assert jetstream.made[-1]["opt_start_seq"] == 48


async def test_nothing_is_left_out_of_a_stream_that_was_restored_and_ends_earlier(
    jetstream: JetStream, consumer: EphemeralConsumer
) -> None:
    await consumer.found()
    consumer.done(90)
    jetstream.state = NOT_FOUND
    jetstream.stream["state"] = {"last_seq": 60}
    await consumer.found()
    assert jetstream.made[-1]["opt_start_seq"] == 61
    consumer.done(65)
    jetstream.stream["state"] = {"last_seq": 75}
    await consumer.found()
    assert jetstream.made[-1]["opt_start_seq"] == 66


async def test_one_that_may_have_been_given_to_a_server_that_is_away_is_not_waited_for(
    jetstream: JetStream, consumer: EphemeralConsumer
) -> None:
    # nats-server 2.10 and 2.11 choose such a server, and tell nobody of that name again.
    await consumer.found()
    jetstream.state, jetstream.takes = OFFLINE, False
    with pytest.raises(nats.errors.TimeoutError):
        await consumer.found()
    jetstream.takes = True
    await consumer.found()
    names = [config["name"] for config in jetstream.made]
    assert len(set(names)) == len(names) == 3

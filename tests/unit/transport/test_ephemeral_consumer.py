"""An ephemeral consumer is reused while it exists, and otherwise recreated at its position."""

from __future__ import annotations

import json
from typing import Any, cast

import nats.errors
import pytest
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from hogsend.transport.connection import Connection
from hogsend.transport.ephemeral_consumer import EphemeralConsumer

CONFIG = ConsumerConfig(
    filter_subject="hogsend.events.*",
    ack_policy=AckPolicy.EXPLICIT,
    deliver_policy=DeliverPolicy.NEW,
)
OFFLINE = {"error": {"code": 500, "err_code": 10119, "description": "consumer is offline"}}
NOT_FOUND = {"error": {"code": 404, "err_code": 10014, "description": "consumer not found"}}


class JetStream:
    """A connection that replies as JetStream does."""

    def __init__(self) -> None:
        self.created_configs: list[dict[str, Any]] = []
        self.info: dict[str, Any] | Exception | None = None
        """Reply or error to a request of the consumer's info."""
        self.replies_to_create = True
        self.stream: dict[str, Any] = {
            "created": "2026-11-24T00:00:00Z",
            "state": {"last_seq": 90},
        }
        self.now = "2026-11-25T00:00:00Z"

    async def request_raw(self, subject: str, body: bytes, **_more: object) -> Msg:
        match subject.split(".")[2:4]:
            case ["CONSUMER", "CREATE"]:
                self.created_configs.append(json.loads(body)["config"])
                if not self.replies_to_create:
                    raise nats.errors.TimeoutError
                reply = self._new_consumer()
            case ["STREAM", "INFO"]:
                reply = self.stream
            case _:
                if isinstance(self.info, Exception):
                    raise self.info
                reply = self.info or self._new_consumer()
        return Msg(cast("Any", None), data=json.dumps(reply).encode())

    def _new_consumer(self) -> dict[str, Any]:
        name = self.created_configs[-1]["name"]
        return {"name": name, "created": self.now, "delivered": {"stream_seq": 40}}


@pytest.fixture
def jetstream() -> JetStream:
    return JetStream()


@pytest.fixture
def consumer(jetstream: JetStream) -> EphemeralConsumer:
    return EphemeralConsumer(cast("Connection", jetstream), "EVENTS", CONFIG)


async def test_an_existing_consumer_is_reused(
    jetstream: JetStream, consumer: EphemeralConsumer
) -> None:
    first, again = await consumer.ensure(), await consumer.ensure()
    assert first.name == again.name
    assert len(jetstream.created_configs) == 1


@pytest.mark.parametrize("info", [OFFLINE, nats.errors.TimeoutError()])
async def test_an_offline_consumer_is_replaced_at_its_position_under_another_name(
    jetstream: JetStream, consumer: EphemeralConsumer, info: Any
) -> None:
    first = await consumer.ensure()
    consumer.note_handled(47)
    jetstream.info = info
    again = await consumer.ensure()
    assert first.name != again.name
    assert jetstream.created_configs[-1]["deliver_policy"] == "by_start_sequence"
    assert jetstream.created_configs[-1]["opt_start_seq"] == 48


async def test_a_deleted_consumer_is_recreated(
    jetstream: JetStream, consumer: EphemeralConsumer
) -> None:
    await consumer.ensure()
    jetstream.info = NOT_FOUND
    await consumer.ensure()
    # It starts after the last message that the stream had at the first creation.
    assert jetstream.created_configs[-1]["opt_start_seq"] == 41


async def test_a_recreated_stream_is_read_from_its_start_once(
    jetstream: JetStream, consumer: EphemeralConsumer
) -> None:
    await consumer.ensure()
    consumer.note_handled(47)
    jetstream.info = NOT_FOUND
    jetstream.stream = {"created": "2026-11-26T00:00:00Z", "state": {"last_seq": 9}}
    jetstream.now = "2026-11-27T00:00:00Z"
    await consumer.ensure()
    assert jetstream.created_configs[-1]["deliver_policy"] == "all"
    consumer.note_handled(3)
    await consumer.ensure()
    assert jetstream.created_configs[-1]["opt_start_seq"] == 4


async def test_a_deleted_stream_is_an_error_until_the_stream_is_recreated(
    jetstream: JetStream, consumer: EphemeralConsumer
) -> None:
    await consumer.ensure()
    consumer.note_handled(47)
    jetstream.info, stream = NOT_FOUND, jetstream.stream
    jetstream.stream = {"error": {"code": 404, "err_code": 10059, "description": "no stream"}}
    with pytest.raises(nats.errors.Error, match="no stream EVENTS"):
        await consumer.ensure()
    jetstream.stream = stream
    await consumer.ensure()
    assert jetstream.created_configs[-1]["opt_start_seq"] == 48


async def test_no_message_of_a_restored_stream_that_ends_earlier_is_skipped(
    jetstream: JetStream, consumer: EphemeralConsumer
) -> None:
    await consumer.ensure()
    consumer.note_handled(90)
    jetstream.info = NOT_FOUND
    jetstream.stream["state"] = {"last_seq": 60}
    await consumer.ensure()
    assert jetstream.created_configs[-1]["opt_start_seq"] == 61
    consumer.note_handled(65)
    jetstream.stream["state"] = {"last_seq": 75}
    await consumer.ensure()
    assert jetstream.created_configs[-1]["opt_start_seq"] == 66


async def test_a_create_without_a_reply_is_repeated_under_another_name(
    jetstream: JetStream, consumer: EphemeralConsumer
) -> None:
    # nats-server 2.10 and 2.11 may place the consumer on a server that is down, and never reply.
    await consumer.ensure()
    jetstream.info, jetstream.replies_to_create = OFFLINE, False
    with pytest.raises(nats.errors.TimeoutError):
        await consumer.ensure()
    jetstream.replies_to_create = True
    await consumer.ensure()
    names = [config["name"] for config in jetstream.created_configs]
    assert len(set(names)) == len(names) == 3

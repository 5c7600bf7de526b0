"""Finding or creating a durable consumer, with replies as JetStream sends them."""

from __future__ import annotations

import json
from typing import Any, cast

import nats.errors
import pytest
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig

from hogsend.contract.errors import ConsumerConflict, Forbidden, InvalidRequest
from hogsend.transport.connection import Connection
from hogsend.transport.foreign_consumer import delete_consumer, ensure_consumer

CONFIG = ConsumerConfig(durable_name="mailer", filter_subject="hogsend.events.signed_up")
DIFFERS = {"error": {"code": 400, "err_code": 10148}}


class Replying:
    """A connection that replies to each request according to the verb in its subject."""

    def __init__(self, **replies: dict[str, Any] | Exception) -> None:
        self._replies = replies
        self.requests: list[str] = []
        self.connected = True
        self.reported: list[str] = []

    async def request_raw(self, subject: str, _body: bytes, **_more: object) -> Msg:
        verb = subject.split(".")[3]
        self.requests.append(verb)
        reply = self._replies[verb]
        if isinstance(reply, Exception):
            raise reply
        return Msg(cast("Any", None), data=json.dumps(reply).encode())

    def observe(self, event: str, detail: str) -> None:
        self.reported.append(f"{event}: {detail}")


async def ensure(connection: Replying) -> str:
    return (await ensure_consumer(cast("Connection", connection), "EVENTS", CONFIG)).name


def existing(**config: object) -> dict[str, Any]:
    return {"name": "mailer", "config": config}


async def test_a_consumer_that_has_a_replay_is_used_while_ingest_is_down() -> None:
    filters = ["hogsend.events.signed_up", "hogsend.replays.mailer"]
    info = existing(filter_subjects=filters)
    assert await ensure(Replying(CREATE=nats.errors.NoRespondersError(), INFO=info)) == "mailer"


async def test_a_missing_consumer_is_created() -> None:
    assert await ensure(Replying(CREATE={"name": "mailer"})) == "mailer"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"filter_subject": "hogsend.events.opened"}, "reads hogsend.events.opened, not"),
        ({"filter_subjects": ["a", "hogsend.events.signed_up"]}, "reads a, hogsend.events"),
        ({}, "reads every subject, not hogsend.events.signed_up"),
        (
            {"filter_subject": "hogsend.events.signed_up", "deliver_subject": "x"},
            "is a push consumer of",
        ),
        (
            {"filter_subject": "hogsend.events.signed_up", "ack_policy": "all"},
            "the acknowledgement policy 'all', not 'explicit'",
        ),
    ],
)
async def test_an_existing_consumer_with_another_filter_is_a_conflict_that_names_both(
    config: dict[str, object], message: str
) -> None:
    connection = Replying(CREATE=DIFFERS, INFO=existing(**config))
    with pytest.raises(ConsumerConflict, match=message):
        await ensure(connection)


@pytest.mark.parametrize(
    "created", [DIFFERS, nats.errors.NoRespondersError()], ids=["differs", "ingest is down"]
)
@pytest.mark.parametrize(
    "config",
    [
        {"filter_subject": "hogsend.events.signed_up"},
        {"filter_subjects": ["hogsend.events.signed_up"], "max_ack_pending": 7},
    ],
)
async def test_an_existing_consumer_with_the_same_filter_is_used_unchanged(
    created: dict[str, Any] | Exception, config: dict[str, object]
) -> None:
    connection = Replying(CREATE=created, INFO=existing(**config))
    assert await ensure(connection) == "mailer"
    assert connection.requests == ["CREATE", "INFO"]


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        ({"code": 403, "description": "not yours"}, Forbidden),
        ({"code": 400, "err_code": 1, "description": "what"}, InvalidRequest),
        ({"code": 404, "err_code": 10059}, nats.errors.Error),
    ],
)
async def test_an_error_of_jetstream_is_a_typed_error(
    error: dict[str, object], raised: type[Exception]
) -> None:
    with pytest.raises(raised):
        await ensure(Replying(CREATE={"error": error}))
    with pytest.raises(raised):
        await ensure(Replying(CREATE=DIFFERS, INFO={"error": error}))


@pytest.mark.parametrize(
    "error", [nats.errors.TimeoutError(), nats.errors.NoRespondersError(), Forbidden("not yours")]
)
async def test_a_failed_deletion_of_a_consumer_is_reported_and_raises_no_error(
    error: Exception,
) -> None:
    connection = Replying(DELETE=error)
    await delete_consumer(cast("Connection", connection), "EVENTS", "random")
    assert connection.requests == ["DELETE"]
    (report,) = connection.reported
    assert report.startswith("consumer: random of EVENTS is left to its timeout")


async def test_a_consumer_is_left_to_its_timeout_while_disconnected() -> None:
    connection = Replying()
    connection.connected = False
    await delete_consumer(cast("Connection", connection), "EVENTS", "random")
    assert (connection.requests, connection.reported) == ([], [])

"""What is said of a durable that exists already: without a server, as JetStream would answer."""

from __future__ import annotations

import json
from typing import Any, cast

import nats.errors
import pytest
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig

from hogsend.contract.errors import ConsumerConflict, Forbidden, InvalidRequest
from hogsend.transport.connection import Connection
from hogsend.transport.foreign_consumer import found_or_made

WANTED = ConsumerConfig(durable_name="mailer", filter_subject="hogsend.events.signed_up")
EXISTS_OTHERWISE = {"error": {"code": 400, "err_code": 10148}}


class Answering:
    """A connection on which each request is answered by what its subject contains."""

    def __init__(self, **answers: dict[str, Any] | Exception) -> None:
        self._answers = answers
        self.asked: list[str] = []

    async def request_raw(self, subject: str, _body: bytes, **_more: object) -> Msg:
        verb = subject.split(".")[3]
        self.asked.append(verb)
        answer = self._answers[verb]
        if isinstance(answer, Exception):
            raise answer
        return Msg(cast("Any", None), data=json.dumps(answer).encode())


async def found(connection: Answering) -> str:
    return (await found_or_made(cast("Connection", connection), "EVENTS", WANTED)).name


def existing(**config: object) -> dict[str, Any]:
    return {"name": "mailer", "config": config}


async def test_one_that_gets_a_replay_is_found_while_ingest_is_away() -> None:
    filters = ["hogsend.events.signed_up", "hogsend.replays.mailer"]
    info = existing(filter_subjects=filters)
    assert await found(Answering(CREATE=nats.errors.NoRespondersError(), INFO=info)) == "mailer"


async def test_one_that_does_not_exist_is_made() -> None:
    assert await found(Answering(CREATE={"name": "mailer"})) == "mailer"


@pytest.mark.parametrize(
    ("config", "said"),
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
async def test_one_that_reads_otherwise_is_a_conflict_that_names_both(
    config: dict[str, object], said: str
) -> None:
    connection = Answering(CREATE=EXISTS_OTHERWISE, INFO=existing(**config))
    with pytest.raises(ConsumerConflict, match=said):
        await found(connection)


@pytest.mark.parametrize(
    "created", [EXISTS_OTHERWISE, nats.errors.NoRespondersError()], ids=["differs", "nobody makes"]
)
@pytest.mark.parametrize(
    "config",
    [
        {"filter_subject": "hogsend.events.signed_up"},
        {"filter_subjects": ["hogsend.events.signed_up"], "max_ack_pending": 7},
    ],
)
async def test_one_that_reads_the_same_is_taken_as_it_is(
    created: dict[str, Any] | Exception, config: dict[str, object]
) -> None:
    connection = Answering(CREATE=created, INFO=existing(**config))
    assert await found(connection) == "mailer"
    assert connection.asked == ["CREATE", "INFO"]


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        ({"code": 403, "description": "not yours"}, Forbidden),
        ({"code": 400, "err_code": 1, "description": "what"}, InvalidRequest),
        ({"code": 404, "err_code": 10059}, nats.errors.Error),
    ],
)
async def test_what_jetstream_refuses_is_a_typed_error(
    error: dict[str, object], raised: type[Exception]
) -> None:
    with pytest.raises(raised):
        await found(Answering(CREATE={"error": error}))
    with pytest.raises(raised):
        await found(Answering(CREATE=EXISTS_OTHERWISE, INFO={"error": error}))

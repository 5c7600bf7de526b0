"""Requests for consumers of other people's services, with replies as JetStream sends them."""

from __future__ import annotations

from typing import Any, cast

import msgspec
import nats.errors
import pytest
from nats.aio.msg import Msg

from hogsend.contract.consumers import API, OWN_API
from hogsend.contract.errors import Forbidden
from hogsend.service.metrics import FAILURES
from hogsend.transport.connection import Connection
from services.ingest.consumer_api.requests import ConsumerRequests
from services.ingest.metrics import CONSUMERS_REFUSED

RANDOM = "n0bodyGuessesThis22"
STREAM = {"state": {"consumer_count": 1}}
DURABLE = msgspec.json.encode(
    {
        "stream_name": "EVENTS",
        "config": {"durable_name": "mine", "filter_subject": "hogsend.events.x"},
    }
)


class JetStream:
    """Replies to each request by what is requested of it, and records the requests."""

    def __init__(self, **replies: Any) -> None:
        self._replies: dict[str, Any] = {"STREAM.INFO": STREAM, **replies}
        self.changes: list[str] = []
        """Subjects of the requests that create or delete."""

    async def request_raw(self, subject: str, _body: bytes, **_more: object) -> Msg:
        request = subject.removeprefix(f"{API}.").removeprefix(f"{OWN_API}.")
        kind = ".".join(request.split(".")[:2])
        if kind not in {"STREAM.INFO", "CONSUMER.INFO"}:
            self.changes.append(request)
        reply = self._replies[kind]
        if isinstance(reply, Exception):
            raise reply
        return Msg(cast("Any", None), data=msgspec.json.encode(reply))


async def reply_of(js: JetStream, subject: str, body: bytes = b"") -> dict[str, Any]:
    requests = ConsumerRequests(cast("Connection", js))
    reply: dict[str, Any] = msgspec.json.decode(await requests.reply_to(subject, body))
    return reply


async def test_a_durable_is_not_deleted_however_random_its_name_is() -> None:
    refused = CONSUMERS_REFUSED.labels("delete")._value
    before = refused.get()
    js = JetStream(**{"CONSUMER.INFO": {"config": {"name": RANDOM, "durable_name": RANDOM}}})
    reply = await reply_of(js, f"DELETE.EVENTS.{RANDOM}")
    assert (reply["error"]["code"], js.changes) == (403, [])
    assert refused.get() == before + 1


async def test_a_consumer_that_is_not_durable_is_deleted() -> None:
    js = JetStream(**{"CONSUMER.INFO": {"config": {"name": RANDOM}}, "CONSUMER.DELETE": {}})
    assert await reply_of(js, f"DELETE.EVENTS.{RANDOM}") == {}
    assert js.changes == [f"CONSUMER.DELETE.EVENTS.{RANDOM}"]


@pytest.mark.parametrize(
    "error",
    [
        nats.errors.TimeoutError(),
        nats.errors.NoRespondersError(),
        OSError("connection reset"),
        Forbidden("not yours"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_request_is_temporarily_unavailable_while_jetstream_does_not_answer(
    error: Exception,
) -> None:
    failures = FAILURES.labels("consumers", type(error).__name__)._value
    before = failures.get()
    reply = await reply_of(
        JetStream(**{"STREAM.INFO": error}), "DURABLE.CREATE.EVENTS.mine", DURABLE
    )
    assert reply["type"] == "io.nats.jetstream.api.v1.consumer_create_response"
    assert (reply["error"]["code"], reply["error"]["err_code"]) == (503, 10008)
    assert failures.get() == before + 1


@pytest.mark.parametrize(
    ("existing", "request_subject"),
    [
        ({"name": "mine", "durable_name": "mine"}, "CREATE.EVENTS.mine.hogsend.events.x"),
        # nats-server 2.11 takes a durable with a name for another one.
        ({"durable_name": "mine"}, "DURABLE.CREATE.EVENTS.mine"),
    ],
)
async def test_an_existing_durable_is_requested_with_a_name_only_if_it_has_one(
    existing: dict[str, Any], request_subject: str
) -> None:
    js = JetStream(
        **{
            "CONSUMER.INFO": {"config": {**existing, "filter_subject": "hogsend.events.x"}},
            "CONSUMER.CREATE": {"name": "mine"},
            "CONSUMER.DURABLE": {"name": "mine"},
        }
    )
    assert await reply_of(js, "DURABLE.CREATE.EVENTS.mine", DURABLE) == {"name": "mine"}
    assert js.changes == [f"CONSUMER.{request_subject}"]

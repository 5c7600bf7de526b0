"""Who is answered: somebody who waits on an inbox, and nothing else."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import pytest
from faststream.nats.message import NatsMessage
from nats.aio.client import Client
from nats.aio.msg import Msg

from hogsend.contract.errors import InvalidRequest
from hogsend.contract.permissions import inbox_prefix
from hogsend.contract.users import User
from hogsend.service.requester import (
    RawRequest,
    RequesterMiddleware,
    has_requester,
    raw_request,
)


def asked(reply: str) -> Msg:
    return Msg(_client=Client(), subject="hogsend.rpc.ingest.purge", reply=reply)


@pytest.mark.parametrize("prefix", ["_INBOX", *(inbox_prefix(user) for user in User)])
def test_who_waits_on_an_inbox_is_answered(prefix: str) -> None:
    assert has_requester(asked(f"{prefix}.x.1"))


@pytest.mark.parametrize(
    "reply",
    [
        *("", "$JS.ACK.EVENTS.zz.1.1.1.1.0", "$JS.FC.EVENTS.zz.x"),
        # Where a service may publish, and who asks it may not.
        *("hogsend.webhooks.posthog", "hogsend.events.x", "hogsend.deadletter.EVENTS"),
        *("$JS.API.STREAM.PURGE.EVENTS", "hogsend.rpc.ingest.purge", "x._INBOX_app.1"),
    ],
)
def test_an_answer_is_no_message_of_ours(reply: str) -> None:
    assert not has_requester(asked(reply))


def parsed(reply: str) -> NatsMessage:
    return NatsMessage(raw_message=asked(reply), body=b"")


async def test_what_is_taken_as_it_came_needs_a_requester_too() -> None:
    assert await raw_request(parsed("_INBOX.x.1")) == RawRequest("hogsend.rpc.ingest.purge", b"")
    with pytest.raises(InvalidRequest):
        await raw_request(parsed("hogsend.webhooks.posthog"))


async def test_a_subscriber_of_faststreams_own_answers_requesters_alone() -> None:
    async def handled(_message: Any) -> str:
        return "answer"

    async def consume(message: NatsMessage) -> Any:
        middleware = RequesterMiddleware(message.raw_message, context=Mock())
        return await middleware.consume_scope(handled, message)

    assert await consume(parsed("_INBOX.x.1")) == "answer"
    with pytest.raises(InvalidRequest):
        await consume(parsed("$JS.ACK.EVENTS.zz.1.1.1.1.0"))

"""A request is answered only when its reply subject is an inbox."""

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


def request(reply: str) -> Msg:
    return Msg(_client=Client(), subject="hogsend.rpc.ingest.purge", reply=reply)


@pytest.mark.parametrize("prefix", ["_INBOX", *(inbox_prefix(user) for user in User)])
def test_a_message_with_an_inbox_has_a_requester(prefix: str) -> None:
    assert has_requester(request(f"{prefix}.x.1"))


@pytest.mark.parametrize(
    "reply",
    [
        *("", "$JS.ACK.EVENTS.zz.1.1.1.1.0", "$JS.FC.EVENTS.zz.x"),
        # Subjects on which the service may publish, and its caller may not.
        *("hogsend.webhooks.posthog", "hogsend.events.x", "hogsend.deadletter.EVENTS"),
        *("$JS.API.STREAM.PURGE.EVENTS", "hogsend.rpc.ingest.purge", "x._INBOX_app.1"),
    ],
)
def test_a_message_with_another_reply_subject_has_no_requester(reply: str) -> None:
    assert not has_requester(request(reply))


def parsed(reply: str) -> NatsMessage:
    return NatsMessage(raw_message=request(reply), body=b"")


async def test_a_raw_request_needs_a_requester_too() -> None:
    assert await raw_request(parsed("_INBOX.x.1")) == RawRequest("hogsend.rpc.ingest.purge", b"")
    with pytest.raises(InvalidRequest):
        await raw_request(parsed("hogsend.webhooks.posthog"))


async def test_the_middleware_passes_only_messages_with_a_requester() -> None:
    async def handle(_message: Any) -> str:
        return "answer"

    async def consume(message: NatsMessage) -> Any:
        middleware = RequesterMiddleware(message.raw_message, context=Mock())
        return await middleware.consume_scope(handle, message)

    assert await consume(parsed("_INBOX.x.1")) == "answer"
    with pytest.raises(InvalidRequest):
        await consume(parsed("$JS.ACK.EVENTS.zz.1.1.1.1.0"))

"""Tells a request, which a client published, from a message that JetStream delivered.

A NATS user that may create a consumer, or pull from one, chooses the subject to which JetStream
delivers. JetStream delivers with the server's permissions, so it can also deliver to the subjects
of our requests. Such a message has a reply subject below `$JS.`, for its acknowledgement or for
flow control. JetStream's API replies and status messages have no reply subject.

A client also chooses the reply subject of its request. NATS does not check whether the client may
publish there, only whether the service may, which includes the service's streams.

So a service answers only requests whose reply subject is an inbox.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from faststream import BaseMiddleware
from faststream.message import StreamMessage
from nats.aio.msg import Msg

from hogsend.contract.errors import InvalidRequest
from hogsend.contract.permissions import CROSS_ACCOUNT_REPLY

JETSTREAM = "$JS."
INBOX = "_INBOX"
"""Prefix of all inboxes: `_INBOX_<user>` of our users, and `_INBOX` of clients without a prefix."""
NO_INBOX = "the request has no inbox for its reply"


def has_requester(message: Msg) -> bool:
    """Whether the reply subject is an inbox, in this NATS account or in another one."""
    return message.reply.startswith((INBOX, CROSS_ACCOUNT_REPLY))


def is_delivered(message: Msg) -> bool:
    """Whether a JetStream consumer delivered `message`, from whatever subject it was stored."""
    return message.reply.startswith(JETSTREAM)


class RawRequest(msgspec.Struct, frozen=True):
    """A request with its undecoded body."""

    subject: str
    body: bytes


async def raw_request(message: StreamMessage[Msg]) -> RawRequest:
    """Decode a request into its subject and body.

    Raises:
        InvalidRequest: the request has no inbox for its reply.
    """
    raw = message.raw_message
    if not has_requester(raw):
        raise InvalidRequest(NO_INBOX)
    return RawRequest(raw.subject, raw.data)


def reject_delivered(
    decode: Callable[[StreamMessage[Any]], Awaitable[Any]],
) -> Callable[[StreamMessage[Any]], Awaitable[Any]]:
    """Wrap a decoder so that it rejects messages which JetStream delivered.

    A consumer could deliver old messages, or those of one stream, to the subjects of another.
    """

    async def decode_published(message: StreamMessage[Any]) -> Any:
        """Decode a message that was published to its subject.

        Raises:
            InvalidRequest: a JetStream consumer delivered the message.
        """
        if is_delivered(message.raw_message):
            raise InvalidRequest("a consumer delivered this message; requests must be published")
        return await decode(message)

    return decode_published


class RequesterMiddleware(BaseMiddleware[Any, Any]):
    """Rejects messages without a requester, for handlers on FastStream's own subscribers."""

    async def consume_scope(
        self, call_next: Callable[[StreamMessage[Any]], Awaitable[Any]], msg: StreamMessage[Any]
    ) -> Any:
        """Call the handler if the message has a requester.

        Raises:
            InvalidRequest: the message has no inbox for its reply; nothing is sent.
        """
        if not has_requester(self.msg):
            raise InvalidRequest(NO_INBOX)
        return await call_next(msg)

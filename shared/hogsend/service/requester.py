"""Tells requests from messages that JetStream delivered to a subject of requests.

A user that may make a consumer, or ask for its next message, names the subject that JetStream sends
to, and JetStream sends with the server's rights: to any request subject of ours. What it delivers
carries a reply below `$JS.`, which acknowledges it or answers flow control, and its own answers
and status messages carry none. Who asks names where the answer goes as well, and NATS does not
look whether they may publish there, but whether the service may: into its streams, for example.
A requester waits on an inbox; nothing else is answered.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from faststream import BaseMiddleware
from faststream.message import StreamMessage
from nats.aio.msg import Msg

from hogsend.contract.errors import InvalidRequest
from hogsend.contract.permissions import CROSSING

JETSTREAM = "$JS."
INBOX = "_INBOX"
"""Begins the inboxes of our users, `_INBOX_<user>`, and of clients that were not given one."""
NO_INBOX = "the request has no inbox for its answer"


def has_requester(message: Msg) -> bool:
    """Whether a requester waits for the answer to `message`, in this account or in another."""
    return message.reply.startswith((INBOX, CROSSING))


def is_delivered(message: Msg) -> bool:
    """Whether a consumer has delivered `message`, which need not have been published here."""
    return message.reply.startswith(JETSTREAM)


class RawRequest(msgspec.Struct, frozen=True):
    """A request as it came."""

    subject: str
    body: bytes


async def raw_request(message: StreamMessage[Msg]) -> RawRequest:
    """Decode a request as what it is.

    Raises:
        InvalidRequest: the request has no inbox for its answer.
    """
    raw = message.raw_message
    if not has_requester(raw):
        raise InvalidRequest(NO_INBOX)
    return RawRequest(raw.subject, raw.data)


def published(
    decode: Callable[[StreamMessage[Any]], Awaitable[Any]],
) -> Callable[[StreamMessage[Any]], Awaitable[Any]]:
    """Decode with `decode` what was published here, and nothing that JetStream delivers.

    It may deliver a message of one stream, and an old one, to the subjects of another.
    """

    async def decode_published(message: StreamMessage[Any]) -> Any:
        """Decode a message.

        Raises:
            InvalidRequest: a consumer has delivered it.
        """
        if is_delivered(message.raw_message):
            raise InvalidRequest("a consumer delivered this message; requests must be published")
        return await decode(message)

    return decode_published


class RequesterMiddleware(BaseMiddleware[Any, Any]):
    """Keeps messages that are not requests from handlers of FastStream's own subscribers."""

    async def consume_scope(
        self, call_next: Callable[[StreamMessage[Any]], Awaitable[Any]], msg: StreamMessage[Any]
    ) -> Any:
        """Go on for a requester alone.

        Raises:
            InvalidRequest: there is none; nothing is answered.
        """
        if not has_requester(self.msg):
            raise InvalidRequest(NO_INBOX)
        return await call_next(msg)

"""Pull requests to one JetStream consumer (NATS ADR-13)."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress

import msgspec
import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from hogsend.contract.consumers import API
from hogsend.transport.connection import Connection
from hogsend.transport.errors import UNREACHABLE

WAIT_SECONDS = 5.0
"""How long a pull request for the next message stays open at the server."""
REPLY_SECONDS = 2.0
"""How long the server may take to reply, on top of the time a pull request stays open."""
LAST_REPLY_SECONDS = 0.25
"""How long `stop` waits for the reply to the open pull request.

At a high message rate the reply arrives within that time. At that rate, an unsubscribe would also
race with a message that the server is about to send: it checks for a subscriber first, and then
sends a message that is not received."""
STOP_SECONDS = 2.0
"""How long the server may take to process the unsubscribe."""
RECONNECT_POLL_SECONDS = 1.0
"""How often to check whether a reconnect has lost the open pull request."""

BATCH_BYTES = 8 * 1024 * 1024
"""Byte limit of one pull request, so that many large messages do not exhaust the memory."""
FRAMING_BYTES = 64 * 1024
"""Upper bound of what subject and reply add to a message's size, as JetStream counts it."""

_NO_MESSAGES, _EXPIRED, _NO_RESPONDERS = "404", "408", "503"
_WINDOW_FULL = "exceeded maxackpending"
_GONE = ("consumer deleted", "consumer is push based")
_STATUS = "Status"

_IGNORED = 0
"""Number of a pull request whose reply is ignored."""


class ConsumerGone(Exception):
    """The consumer, or its stream, does not exist."""


class PullRequest(msgspec.Struct, omit_defaults=True):
    """A pull request (NATS ADR-13)."""

    batch: int
    expires: int = 0
    """Nanoseconds."""
    no_wait: bool = False
    max_bytes: int = 0
    group: str = ""
    """Priority group of the reader (NATS ADR-42)."""
    id: str = ""
    """Id that JetStream has given the reader that the consumer is pinned to."""


class Pull:
    """Pull requests to one consumer, one at a time, with replies on an inbox of their own.

    nats-py's `fetch` waits for its whole timeout unless the batch is full, so that a single message
    is late or costs a timer. With `no_wait` the server replies at once with what is available.
    """

    def __init__(self, connection: Connection, stream: str, consumer: str) -> None:
        self._connection = connection
        self._client = client = connection.client
        self._subject = f"{API}.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._inbox = f"{client.new_inbox()}."
        self._subscription: Subscription | None = None
        self._request_number = 0
        self._messages_needed = 0
        """How many messages complete the current wait."""
        self._reconnects = 0
        """The client's count of reconnects when the last request was sent."""
        self._open_until = 0.0
        """When the request of `follow` expires, by the event loop's clock."""
        self._follow_remaining = 0
        """How many messages the request of `follow` may still deliver."""
        self._messages: deque[Msg] = deque()
        self._status: Msg | None = None
        self.is_reply_complete = True
        """Whether the last reply was complete; otherwise some of its messages may be lost."""
        self._arrived = asyncio.Event()
        self._stopped = False
        self._open_for = 0
        """How many messages the open request may still deliver."""
        self._reply_ended = asyncio.Event()

    async def start(self) -> None:
        """Subscribe to replies, until `stop` or the close of the connection."""
        self._subscription = await self._client.subscribe_inline(
            f"{self._inbox}*", self._on_message
        )
        self._connection.add_close_hook(self.stop)

    async def stop(self) -> None:
        """Unsubscribe, and nak the messages that were received and not returned.

        A call that waits for messages, and any later one, raises `ConnectionClosedError`.
        """
        subscription, self._subscription = self._subscription, None
        if subscription is None:
            return
        self._stopped = True
        self._arrived.set()
        self._connection.remove_close_hook(self.stop)
        try:
            await self._wait_for_last_reply()
        finally:
            await self._unsubscribe(subscription)

    async def _unsubscribe(self, subscription: Subscription) -> None:
        try:
            # When a connection is lost, JetStream redelivers its messages.
            with suppress(*UNREACHABLE):
                await self._client.drain_subscription(subscription, STOP_SECONDS)
        finally:
            with suppress(nats.errors.Error):
                while self._messages:
                    await self._messages.popleft().nak()

    async def next(self, batch: int) -> list[Msg]:
        """Return available messages, or wait for the first one; empty when none came in time.

        Raises:
            ConsumerGone: there is no such consumer.
            nats.errors.Error: the connection is lost, or there is no reply.
        """
        # For a batch of one a waiting request is enough: it returns an available message at once.
        # A subscriber that reads one message at a time so sends one request for each.
        messages: list[Msg] = []
        if batch > 1:
            messages = await self.request(self.no_wait_request(batch), REPLY_SECONDS)
        if not messages:
            expires = round(WAIT_SECONDS * 1e9)
            messages = await self.request(PullRequest(1, expires), WAIT_SECONDS + REPLY_SECONDS)
            if messages and batch > 1:
                more = self.no_wait_request(batch - 1)
                try:
                    messages += await self.request(more, REPLY_SECONDS)
                except (*UNREACHABLE, ConsumerGone):
                    # Return the first message now; the next request fails in the same way.
                    return messages
                except asyncio.CancelledError:
                    # The caller did not receive the first message: `stop` naks it with the others.
                    self._messages.extendleft(messages)
                    raise
        return messages

    async def follow(self, batch: int) -> list[Msg]:
        """Wait for the next messages; empty when none came in time.

        For a consumer without acknowledgements. It has no other reader, so that one request for
        `batch` messages stays open. A request for each message took half of the message's cost
        here, and nearly half of its cost at the server.

        Raises:
            ConsumerGone: there is no such consumer.
            nats.errors.Error: the connection is lost, or there is no reply.
        """
        loop = asyncio.get_running_loop()
        refusal = self._connection.refusals.of(self._subject)
        if not self._messages:
            if self._request_number and self._is_lost():
                raise nats.errors.TimeoutError
            is_used_up = self._follow_remaining <= 0 or self._status is not None
            if is_used_up or loop.time() >= self._open_until:
                await self._send(PullRequest(batch, round(WAIT_SECONDS * 1e9)))
                self._follow_remaining, self._open_until = batch, loop.time() + WAIT_SECONDS
            self._messages_needed = 1
            remaining = self._open_until + REPLY_SECONDS - loop.time()
            self.is_reply_complete = await self._replied_within(remaining, refusal)
        messages = self._take_messages(refusal)
        self._follow_remaining -= len(messages)
        return messages

    def no_wait_request(self, batch: int) -> PullRequest:
        """Return a request for at most `batch` messages that are available now."""
        # A message larger than the byte limit would never be delivered.
        max_bytes = max(BATCH_BYTES, self._connection.max_payload + FRAMING_BYTES)
        return PullRequest(batch, no_wait=True, max_bytes=max_bytes)

    async def request(self, request: PullRequest, seconds: float) -> list[Msg]:
        """Send a pull request, and return the messages that arrive until it ends or times out.

        Args:
            request: the pull request.
            seconds: how long the reply may take.

        Raises:
            ConsumerGone: there is no such consumer.
            nats.errors.Error: the connection is lost, or there is no reply.
        """
        refusal = self._connection.refusals.of(self._subject)
        self._open_for = request.batch
        await self._send(request)
        self.is_reply_complete = await self._replied_within(seconds, refusal)
        return self._take_messages(refusal)

    async def publish_request(self, request: PullRequest) -> None:
        """Send a pull request and ignore its reply."""
        body = msgspec.json.encode(request)
        await self._client.publish(self._subject, body, reply=f"{self._inbox}{_IGNORED}")

    async def _send(self, request: PullRequest) -> None:
        self._request_number += 1
        self._messages_needed, self._status = request.batch, None
        self._reconnects = self._client.stats["reconnects"]
        inbox = f"{self._inbox}{self._request_number}"
        await self._client.publish(self._subject, msgspec.json.encode(request), reply=inbox)

    def _take_messages(self, refusal: asyncio.Future[None]) -> list[Msg]:
        if self._stopped:
            raise nats.errors.ConnectionClosedError
        if not self.is_reply_complete and not self._messages:
            if refusal.done():
                raise self._connection.refusals.error(self._subject)
            # No reply at all: the request was lost with a connection or a leader.
            raise nats.errors.TimeoutError
        messages = list(self._messages)
        self._messages.clear()
        if not messages and self._status is not None:
            _raise_for(self._status)
        return messages

    async def _replied_within(self, seconds: float, refusal: asyncio.Future[None]) -> bool:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while not self._has_replied():
            remaining = deadline - loop.time()
            if remaining <= 0 or self._stopped or self._is_lost() or refusal.done():
                return False
            self._arrived.clear()
            # `asyncio.timeout` takes 3 us more, for every message.
            check = loop.call_later(min(remaining, RECONNECT_POLL_SECONDS), self._arrived.set)
            try:
                await self._arrived.wait()
            finally:
                check.cancel()
        return True

    async def _wait_for_last_reply(self) -> None:
        if self._open_for > 0 and self._client.stats["reconnects"] == self._reconnects:
            self._reply_ended.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_REPLY_SECONDS):
                    await self._reply_ended.wait()

    def _is_lost(self) -> bool:
        """Return whether the connection that the last request was sent on has ended."""
        reconnects = self._client.stats["reconnects"]
        return self._connection.closed or bool(reconnects != self._reconnects)

    def _has_replied(self) -> bool:
        return self._status is not None or len(self._messages) >= self._messages_needed

    def _on_message(self, message: Msg) -> None:
        # Only a status message has the inbox as its subject; a message keeps its own.
        if message.subject.startswith(self._inbox):
            if message.subject == f"{self._inbox}{self._request_number}":
                self._status = message
                self._open_for = 0
        else:
            # A message for an earlier request counts, too: JetStream has delivered it here.
            self._messages.append(message)
            self._open_for -= 1
        if self._open_for <= 0:
            self._reply_ended.set()
        if self._has_replied():
            self._arrived.set()


def _raise_for(status: Msg) -> None:
    headers = status.headers or {}
    code, description = headers.get(_STATUS, ""), headers.get("Description", "").lower()
    if code == _NO_RESPONDERS or any(reason in description for reason in _GONE):
        raise ConsumerGone(description or "no consumer answers")
    if code not in {_NO_MESSAGES, _EXPIRED} and description != _WINDOW_FULL:
        # 409: the leader changes, or the server shuts down.
        raise nats.errors.Error(f"{code} {description}")

"""Pull requests to one consumer of JetStream (NATS ADR-13)."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress

import msgspec
import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from hogsend.contract.consumers import API
from hogsend.transport.connection import UNREACHABLE, Connection

WAIT_SECONDS = 5.0
"""How long one request for the next message stays open at the server."""
ANSWER_SECONDS = 2.0
"""How much later than that the server may say that there was none."""
LAST_ANSWER_SECONDS = 0.25
"""How long a stop waits for the answer to a request that is open.

Where messages come often it comes within that. There the server, which looks for a listener before
it sends a message, would send one that is not heard."""
STOP_SECONDS = 2.0
"""How long the server may take to hear that the subscription has ended."""
RECONNECT_POLL_SECONDS = 1.0
"""How soon a request that a reconnection lost is noticed and made again."""

BATCH_BYTES = 8 * 1024 * 1024
"""Most that one request brings, so that many large messages do not fill a process's memory."""
FRAMING_BYTES = 64 * 1024
"""More than subject and reply add to a message, which JetStream counts, too."""

_NO_MESSAGES, _EXPIRED, _NO_RESPONDERS = "404", "408", "503"
_WINDOW_FULL = "exceeded maxackpending"
_GONE = ("consumer deleted", "consumer is push based")
_STATUS = "Status"

_UNHEARD = 0
"""Number of a request whose answer is ignored."""


class ConsumerGone(Exception):
    """The consumer, or its stream, does not exist any more."""


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
    """What JetStream has named the reader that it gives messages to."""


class Pull:
    """Requests to one consumer, one at a time, answered on an inbox of its own.

    nats-py's `fetch` waits for its whole timeout unless the batch is full, so that a lone message
    either waits or costs a timer; asked with `no_wait`, the server says at once what is there.
    """

    def __init__(self, connection: Connection, stream: str, consumer: str) -> None:
        self._connection = connection
        self._client = client = connection.client
        self._subject = f"{API}.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._inbox = f"{client.new_inbox()}."
        self._subscription: Subscription | None = None
        self._requests = 0
        self._wanted = 0
        self._reconnects = 0
        self._open_until = 0.0
        self._left = 0
        self._messages: deque[Msg] = deque()
        self._status: Msg | None = None
        self.answered = True
        """Whether the last answer came to its end; otherwise some of it may be lost."""
        self._arrived = asyncio.Event()
        self._stopped = False
        self._open_for = 0
        """Messages that the request which is open may bring yet."""
        self._ended = asyncio.Event()

    async def start(self) -> None:
        """Listen for answers, at most until the connection is closed."""
        self._subscription = await self._client.hear(f"{self._inbox}*", self._on_message)
        self._connection.add_close_hook(self.stop)

    async def stop(self) -> None:
        """Stop listening, and give back what arrived, or was on its way, and was not handed out.

        Who waits for a message, or asks for one later, is told that the connection is closed.
        """
        subscription, self._subscription = self._subscription, None
        if subscription is None:
            return
        self._stopped = True
        self._arrived.set()
        self._connection.remove_close_hook(self.stop)
        try:
            await self._last_answer()
        finally:
            await self._end(subscription)

    async def _end(self, subscription: Subscription) -> None:
        try:
            # A connection that is lost has given everything back.
            with suppress(*UNREACHABLE):
                await self._client.end(subscription, STOP_SECONDS)
        finally:
            with suppress(nats.errors.Error):
                while self._messages:
                    await self._messages.popleft().nak()

    async def next(self, batch: int) -> list[Msg]:
        """Give what is there, or wait for the first message; empty when none came in time.

        Raises:
            ConsumerGone: there is no such consumer.
            nats.errors.Error: the connection is lost, or nothing answers.
        """
        # For one message it is enough to wait: one that is there comes at once. A subscriber that
        # takes them one by one asks once for each.
        messages: list[Msg] = []
        if batch > 1:
            messages = await self.ask(self.what_is_there(batch), ANSWER_SECONDS)
        if not messages:
            expires = round(WAIT_SECONDS * 1e9)
            messages = await self.ask(PullRequest(1, expires), WAIT_SECONDS + ANSWER_SECONDS)
            if messages and batch > 1:
                rest = self.what_is_there(batch - 1)
                try:
                    messages += await self.ask(rest, ANSWER_SECONDS)
                except (*UNREACHABLE, ConsumerGone):
                    # The message in hand goes first; the next request meets the same trouble.
                    return messages
                except asyncio.CancelledError:
                    # The caller has not got it: it is given back with the others.
                    self._messages.extendleft(messages)
                    raise
        return messages

    async def follow(self, batch: int) -> list[Msg]:
        """Wait for what comes next; empty when nothing came in time.

        For a consumer that wants no acknowledgement: it has no other reader, so one request stays
        open for `batch` of them. To ask for each anew was half of what a message cost here, and
        nearly half of what it cost the server.

        Raises:
            ConsumerGone: there is no such consumer.
            nats.errors.Error: the connection is lost, or nothing answers.
        """
        loop = asyncio.get_running_loop()
        refusal = self._connection.refusals.of(self._subject)
        if not self._messages:
            if self._requests and self._is_lost():
                raise nats.errors.TimeoutError
            if self._left <= 0 or self._status is not None or loop.time() >= self._open_until:
                await self._send(PullRequest(batch, round(WAIT_SECONDS * 1e9)))
                self._left, self._open_until = batch, loop.time() + WAIT_SECONDS
            self._wanted = 1
            left = self._open_until + ANSWER_SECONDS - loop.time()
            self.answered = await self._answered_within(left, refusal)
        messages = self._taken(refusal)
        self._left -= len(messages)
        return messages

    def what_is_there(self, batch: int) -> PullRequest:
        """Make a request for at most so many messages that does not wait for any."""
        # A message that is larger than the limit would never come.
        most = max(BATCH_BYTES, self._connection.max_payload + FRAMING_BYTES)
        return PullRequest(batch, no_wait=True, max_bytes=most)

    async def ask(self, request: PullRequest, seconds: float) -> list[Msg]:
        """Ask once, and give what came before the end of the answer, or of the time.

        Args:
            request: what is asked for.
            seconds: how long the answer may take.

        Raises:
            ConsumerGone: there is no such consumer.
            nats.errors.Error: the connection is lost, or nothing answers.
        """
        refusal = self._connection.refusals.of(self._subject)
        self._open_for = request.batch
        await self._send(request)
        self.answered = await self._answered_within(seconds, refusal)
        return self._taken(refusal)

    async def _send(self, request: PullRequest) -> None:
        self._requests += 1
        self._wanted, self._status = request.batch, None
        self._reconnects = self._client.stats["reconnects"]
        inbox = f"{self._inbox}{self._requests}"
        await self._client.publish(self._subject, msgspec.json.encode(request), reply=inbox)

    def _taken(self, refusal: asyncio.Future[None]) -> list[Msg]:
        if self._stopped:
            raise nats.errors.ConnectionClosedError
        if not self.answered and not self._messages:
            if refusal.done():
                raise self._connection.refusals.error(self._subject)
            # Silence: the request was lost with a connection or a leader.
            raise nats.errors.TimeoutError
        messages = list(self._messages)
        self._messages.clear()
        if not messages and self._status is not None:
            _raise_for(self._status)
        return messages

    async def tell(self, request: PullRequest) -> None:
        """Ask for nothing: what is answered is not looked at."""
        body = msgspec.json.encode(request)
        await self._client.publish(self._subject, body, reply=f"{self._inbox}{_UNHEARD}")

    async def _answered_within(self, seconds: float, refusal: asyncio.Future[None]) -> bool:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while not self._is_answered():
            left = deadline - loop.time()
            if left <= 0 or self._stopped or self._is_lost() or refusal.done():
                return False
            self._arrived.clear()
            # `asyncio.timeout` takes 3 us more, for every message.
            look = loop.call_later(min(left, RECONNECT_POLL_SECONDS), self._arrived.set)
            try:
                await self._arrived.wait()
            finally:
                look.cancel()
        return True

    async def _last_answer(self) -> None:
        if self._open_for > 0 and self._client.stats["reconnects"] == self._reconnects:
            self._ended.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_ANSWER_SECONDS):
                    await self._ended.wait()

    def _is_lost(self) -> bool:
        """Whether the connection that the request was made on is no more."""
        reconnects = self._client.stats["reconnects"]
        return self._connection.closed or bool(reconnects != self._reconnects)

    def _is_answered(self) -> bool:
        return self._status is not None or len(self._messages) >= self._wanted

    def _on_message(self, message: Msg) -> None:
        # Only a status message keeps the inbox as its subject; a message keeps its own.
        if message.subject.startswith(self._inbox):
            if message.subject == f"{self._inbox}{self._requests}":
                self._status = message
                self._open_for = 0
        else:
            # Also one that an earlier request waited for: it was delivered to us and is ours.
            self._messages.append(message)
            self._open_for -= 1
        if self._open_for <= 0:
            self._ended.set()
        if self._is_answered():
            self._arrived.set()


def _raise_for(status: Msg) -> None:
    headers = status.headers or {}
    code, description = headers.get(_STATUS, ""), headers.get("Description", "").lower()
    if code == _NO_RESPONDERS or any(reason in description for reason in _GONE):
        raise ConsumerGone(description or "no consumer answers")
    if code not in {_NO_MESSAGES, _EXPIRED} and description != _WINDOW_FULL:
        # 409: the leader changes, or the server shuts down.
        raise nats.errors.Error(f"{code} {description}")

"""Consumes a JetStream consumer: pulls batches, and keeps what is in hand from being redelivered.

One loop for every consumer of Hogsend: ingest's batches, what analytics sends to PostHog, and the
iterators that other people's services use. It outlives reconnections, server restarts, and a
consumer or stream that was deleted.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable

import msgspec
import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js import errors as js_errors
from nats.js.api import ConsumerConfig

from hogsend.transport.connection import Connection
from hogsend.transport.foreign_consumer import found_or_made
from hogsend.transport.own_consumer import Position, made

WAIT_SECONDS = 5.0
"""How long one request for the next message stays open at the server."""
ANSWER_SECONDS = 2.0
"""How much later than that the server may say that there was none."""
RECONNECT_POLL_SECONDS = 1.0
"""How soon a request that a reconnection lost is noticed and made again."""
RETRY_SECONDS = 0.5
HEARTBEAT_SECONDS = 10.0
"""How often JetStream hears that messages are still worked on; well below any `ack_wait`."""
CLEAR_EVERY = 1000
"""New messages in hand after which acknowledged ones are dropped."""
NAK_FLUSH_SECONDS = 2

UNREACHABLE = (nats.errors.Error, js_errors.Error, TimeoutError, OSError)
"""What nats-py raises while NATS, JetStream or a stream cannot be reached."""

BATCH_BYTES = 8 * 1024 * 1024
"""Most that one request brings, so that many large messages do not fill a process's memory."""
FRAMING_BYTES = 64 * 1024
"""More than subject and reply add to a message, which JetStream counts, too."""

_NO_MESSAGES, _EXPIRED, _NO_RESPONDERS = "404", "408", "503"
_WINDOW_FULL = "exceeded maxackpending"
_GONE = ("consumer deleted", "consumer is push based")
_STATUS = "Status"

JETSTREAM_ANSWER = b'{"type":"io.nats.jetstream.api.'
"""What every answer of JetStream's API begins with; its status messages are empty."""

_UNHEARD = 0
"""Number of requests whose answers nobody waits for."""
_TOKENS_OF_REPLY, _SEQUENCE_TOKEN = 9, 5

Report = Callable[[str, Exception], None]
"""Told `(what was tried, why it failed)` about a failure that was handled."""


class ConsumerGone(Exception):
    """The consumer, or its stream, does not exist any more."""


class Consumer:
    """Pulls messages of one consumer, in batches; several of them may share a durable.

    A batch comes as soon as there is one message, with whatever else is there at that moment.
    """

    def __init__(
        self,
        connection: Connection,
        stream: str,
        config: ConsumerConfig,
        *,
        batch: int,
        adjust: bool = True,
        position: Position | None = None,
    ) -> None:
        """Prepare without asking.

        Args:
            connection: may connect later.
            stream: the stream's name.
            config: made when missing, and again when it was deleted.
            batch: most messages handed out at a time.
            adjust: give a consumer that exists this configuration; else it stays as it is, and one
                that reads something else is an error.
            position: where it begins when it is made again; None as declared.
        """
        self._connection = connection
        self._stream = stream
        # Only named consumers have a subject that permissions can tell apart; and under its name
        # one without a durable is found again, with its position, after a reconnection.
        named = config if config.durable_name else config.evolve(name=secrets.token_hex(8))
        self._config = named
        self._batch = batch
        self._adjust = adjust
        self._position = position

    async def find(self) -> str:
        """Make the consumer unless it exists, and give its name.

        Raises:
            ConsumerConflict: it exists, may not be adjusted, and reads something else.
            Forbidden: this NATS user may not make or see it.
            nats.errors.Error: NATS or JetStream cannot be reached.
        """
        if not self._adjust:
            return await found_or_made(self._connection, self._stream, self._config)
        js = await self._connection.js_for(self._stream)
        if self._position is None:
            return (await made(js, self._stream, self._config)).name
        return (await self._position.made(js, self._stream, self._config)).name

    async def batches(self) -> AsyncGenerator[list[Msg], None]:
        """Yield unacknowledged messages, until the connection is closed.

        Raises:
            ConsumerConflict: see `find`.
            Forbidden: this NATS user may not make the consumer, or not read from it.
        """
        pull: Pull | None = None
        try:
            while True:
                try:
                    if pull is None:
                        await self._connected()
                        pull = await self._start()
                    if messages := await self._without_strays(await pull.next(self._batch)):
                        if self._position is not None:
                            self._position.reached(messages[-1].metadata.sequence.stream)
                        yield messages
                except nats.errors.ConnectionClosedError:
                    return
                except (*UNREACHABLE, ConsumerGone):
                    if pull is not None:
                        await pull.stop()
                    pull = None
                    await asyncio.sleep(RETRY_SECONDS)
        finally:
            if pull is not None:
                await pull.stop()

    async def _without_strays(self, messages: list[Msg]) -> list[Msg]:
        """Leave out what JetStream itself has put into the stream, as an answer (docs/adr/0012).

        Whoever asks JetStream names the subject of its answer, and it answers with the server's
        rights. Redelivered without end, such an answer would stop whoever reads the stream.
        """
        kept = []
        for message in messages:
            if message.data and not message.data.startswith(JETSTREAM_ANSWER):
                kept.append(message)
                continue
            self._connection.observe(
                "error", f"an answer of JetStream's was left out, on {message.subject}"
            )
            await message.ack()
        return kept

    async def _connected(self) -> None:
        # Subscribing before the first connection would use an inbox this user may not read.
        while not self._connection.connected:  # noqa: ASYNC110 - nats-py has no event for it
            await asyncio.sleep(RETRY_SECONDS / 5)

    async def _start(self) -> Pull:
        pull = Pull(self._connection, self._stream, await self.find())
        await pull.start()
        return pull


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
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._inbox = f"{client.new_inbox()}."
        self._subscription: Subscription | None = None
        self._requests = 0
        self._wanted = 0
        self._messages: deque[Msg] = deque()
        self._status: Msg | None = None
        self.answered = True
        """Whether the last answer came to its end; otherwise some of it may be lost."""
        self._arrived = asyncio.Event()

    async def start(self) -> None:
        """Listen for answers."""
        self._subscription = await self._client.subscribe(f"{self._inbox}*", cb=self._on_message)

    async def stop(self) -> None:
        """Stop listening, and give back what arrived and was not handed out."""
        if self._subscription is None or self._client.is_closed:
            return
        await self._subscription.unsubscribe()
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
        self._requests += 1
        self._wanted, self._status = request.batch, None
        self._arrived.clear()
        inbox = f"{self._inbox}{self._requests}"
        refusal = self._connection.refusal(self._subject)
        await self._client.publish(self._subject, msgspec.json.encode(request), reply=inbox)
        self.answered = await self._answered_within(seconds, refusal)
        if not self.answered and not self._messages:
            if refusal.done():
                raise self._connection.forbidden(self._subject)
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
        reconnects = self._client.stats["reconnects"]
        deadline = asyncio.get_running_loop().time() + seconds
        while not self._is_answered():
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0 or self._client.stats["reconnects"] != reconnects or refusal.done():
                return False
            try:
                async with asyncio.timeout(min(left, RECONNECT_POLL_SECONDS)):
                    await self._arrived.wait()
            except TimeoutError:
                continue
        return True

    def _is_answered(self) -> bool:
        return self._status is not None or len(self._messages) >= self._wanted

    async def _on_message(self, message: Msg) -> None:
        # Only a status message keeps the inbox as its subject; a message keeps its own.
        if message.subject.startswith(self._inbox):
            if message.subject == f"{self._inbox}{self._requests}":
                self._status = message
        else:
            # Also one that an earlier request waited for: it was delivered to us and is ours.
            self._messages.append(message)
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


class MessagesInHand:
    """Messages that were handed out and are not acknowledged: kept alive, or given back.

    JetStream redelivers what it hears nothing about for `ack_wait`. While a message is in hand it
    hears a heartbeat; what is left over at the end is given back with a nak, so that another
    replica gets it at once.
    """

    def __init__(
        self, connection: Connection, report: Report, *, interval: float = HEARTBEAT_SECONDS
    ) -> None:
        """Hold nothing yet.

        Args:
            connection: where the messages came from.
            report: told about heartbeats and naks that failed.
            interval: seconds between two heartbeats.
        """
        self._connection = connection
        self._report = report
        self._interval = interval
        self._messages: dict[int, Msg] = {}
        self._clear_at = CLEAR_EVERY

    def __len__(self) -> int:
        """How many are in hand."""
        return len(self._unacknowledged())

    def take(self, messages: Iterable[Msg]) -> None:
        """Hold messages from now on."""
        # A message that is delivered again meanwhile takes the place of its first delivery.
        self._messages.update((_sequence(message), message) for message in messages)
        # Acknowledged ones must not wait for the next heartbeat: at thousands a second they would
        # be most of a process's memory.
        if len(self._messages) >= self._clear_at:
            self._clear_at = len(self._unacknowledged()) + CLEAR_EVERY

    def forget(self, messages: Iterable[Msg]) -> None:
        """Hold messages no longer, acknowledged or not."""
        for message in messages:
            self._messages.pop(_sequence(message), None)

    async def keep_alive(self) -> None:
        """Tell JetStream again and again that what is in hand is worked on; cancel it to stop."""
        while True:
            await asyncio.sleep(self._interval)
            try:
                for message in self._unacknowledged():
                    if not message.is_acked:
                        await message.in_progress()
            except (nats.errors.Error, OSError) as error:
                # JetStream may redeliver then, which costs a repeat and nothing else.
                self._report("in_progress", error)

    async def nak_all(self, delay: float) -> int:
        """Give everything back, to be redelivered after `delay` seconds; gives how many."""
        left = self._unacknowledged()
        self._messages.clear()
        if not left:
            return 0
        try:
            for message in left:
                await message.nak(delay)
            await self._connection.flush(NAK_FLUSH_SECONDS)
        except UNREACHABLE as error:
            # They are redelivered all the same, once JetStream misses their heartbeat.
            self._report("nak", error)
        return len(left)

    def _unacknowledged(self) -> list[Msg]:
        self._messages = {key: one for key, one in self._messages.items() if not one.is_acked}
        return list(self._messages.values())


def _sequence(message: Msg) -> int:
    # All metadata of every message would take 4 % of what ingest does; see NATS ADR-15.
    tokens = message.reply.split(".")
    if len(tokens) == _TOKENS_OF_REPLY:
        return int(tokens[_SEQUENCE_TOKEN])
    # It names a domain and an account, too.
    return message.metadata.sequence.stream

"""Publishes to JetStream: many messages in flight, with all acknowledgements on one subscription.

nats-py's `publish` sets up a request and a timer for every message, which costs more than the whole
remaining work on a webhook. Here all acknowledgements arrive on one subscription, one timer checks
all deadlines, and messages of one iteration of the event loop are written together. Messages are
written in the order of the calls. A deadline limits JetStream's time: lag of this process's event
loop does not count.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec
import nats.errors
from nats.aio.msg import Msg

from hogsend.contract.errors import Forbidden, TooLarge, Unavailable
from hogsend.transport import hpub
from hogsend.transport.jetstream_error import JetStreamError, publish_error
from hogsend.transport.nats_client import NatsClient
from hogsend.transport.pending_acks import Outcome, PendingAcks, raise_outcome

ACKNOWLEDGE_SECONDS = 2.0
"""Default limit for the acknowledgement of one message."""
ACKNOWLEDGE_ALL_SECONDS = 5.0
"""Default limit for the acknowledgements of up to `IN_FLIGHT` messages of one call."""
IN_FLIGHT = 1000
"""How many messages of one call are published before their acknowledgements are awaited."""

SWEEP_SECONDS = 0.005
"""Interval at which deadlines are checked."""
GRACE_SWEEPS = 3
"""Sweeps that a deadline is extended by. Within so many iterations of the event loop, an
acknowledgement that has arrived at the socket by the deadline is certainly read."""
MAX_LAG_SECONDS = 2.0
"""Limit of the event loop's lag that a deadline is extended by."""

WRITE_BYTES = 1024 * 1024
"""Approximate size of one write. A write copies its data, and the next one waits until the socket's
buffer has space."""

TOO_LATE = "JetStream did not acknowledge in time"

EXPECTED_LAST = "Nats-Expected-Last-Subject-Sequence"
"""Header with the sequence of the subject's last message. JetStream rejects the message if another
one is the last."""

Inject = Callable[[dict[str, str]], None]
"""Adds headers of the caller's context, for example its trace."""


class OutgoingMessage(msgspec.Struct, frozen=True):
    """A message for a stream. JetStream deduplicates by the id in its headers."""

    subject: str
    body: bytes
    headers: Mapping[str, str]


class _PublishReply(msgspec.Struct, frozen=True):
    """JetStream's reply to a publish (NATS ADR-1)."""

    error: JetStreamError | None = None
    seq: int = 0


_decode_reply = msgspec.json.Decoder(_PublishReply).decode


class Publisher:
    """The publisher of one connection."""

    def __init__(self, client: NatsClient) -> None:
        """Publish on `client`, which may connect later."""
        self._client = client
        self._next_token = 0
        self._pending: dict[str, tuple[PendingAcks, int]] = {}
        """Caller and index of each message in flight, by the token of its acknowledgement."""
        self._callers: set[PendingAcks] = set()
        self._total_lag = 0.0
        """Seconds that sweeps have run late so far: lag of the event loop."""
        self._acks_refused = ""
        """Why the server refused the acknowledgement inbox; empty while it works."""
        self.inject: Inject | None = None
        self._reset()

    def _reset(self) -> None:
        """Drop all state that belongs to one connection or one event loop."""
        self._inbox = ""
        self._subscribing = asyncio.Lock()
        self._outgoing: dict[str, bytes] = {}
        """Encoded messages to be written, by the token of their acknowledgement."""
        self._writing: asyncio.Task[None] | None = None
        self._sweep: asyncio.TimerHandle | None = None
        self.slots = asyncio.Semaphore(IN_FLIGHT)
        """Limits how many single publishes are in flight: beyond `IN_FLIGHT`, publishers would time
        each other out."""

    def connection_closed(self) -> None:
        """Fail every publish in flight. The next connection may be in another event loop."""
        for pending in list(self._callers):
            pending.fail("the connection to NATS was closed")
        if self._sweep is not None:
            self._sweep.cancel()
        self._reset()

    async def publish(
        self, message: OutgoingMessage, *, within: float = ACKNOWLEDGE_SECONDS
    ) -> None:
        """Publish and wait until JetStream has stored the message, at most `within` seconds.

        Raises:
            Forbidden: this NATS user may not publish on that subject.
            Unavailable: not connected, no acknowledgement in time, or the stream is full or
                missing. The message may be stored all the same; publishing it again is a repeat.
            TooLarge: larger than the server or the stream allows.
            PublishRejected: JetStream rejects this message for good.
        """
        (await self._send([message], within)).result()

    async def publish_and_get_sequence(
        self, message: OutgoingMessage, *, within: float = ACKNOWLEDGE_SECONDS
    ) -> int:
        """Publish as `publish` does, and return the message's sequence in the stream.

        For a repeat this is the sequence of the first message.

        Raises:
            WrongLastSequence: the subject's last message is not the one that `EXPECTED_LAST` names.
            HogsendError: as `publish`.
        """
        return (await self._send([message], within)).result()

    async def publish_all(
        self, messages: Sequence[OutgoingMessage], *, within: float = ACKNOWLEDGE_ALL_SECONDS
    ) -> list[Outcome]:
        """Publish many messages and wait for all acknowledgements.

        Args:
            messages: any number of them.
            within: limit in seconds for each `IN_FLIGHT` messages.

        Returns:
            An outcome for each message, in order: None, `TooLarge` or `PublishRejected`.

        Raises:
            Forbidden: this NATS user may not publish on one of the subjects.
            Unavailable: not every message has an outcome in time; all may be published again.
        """
        outcomes: list[Outcome] = []
        clock = asyncio.get_running_loop().time
        deadline = clock()
        for start in range(0, len(messages), IN_FLIGHT):
            # Absolute, so that time in which the process was frozen counts for later windows, too.
            deadline += within
            remaining = min(within, deadline - clock())
            window = await self._send(messages[start : start + IN_FLIGHT], remaining)
            for index, outcome in enumerate(window.outcomes):
                if isinstance(outcome, (Unavailable, Forbidden)):
                    del outcome
                    raise_outcome(window.outcomes, index)
            outcomes += window.outcomes
        return outcomes

    async def acknowledge(self, messages: Sequence[hpub.Acknowledgeable]) -> None:
        """Acknowledge messages that were received over this connection, all in one write.

        Raises:
            nats.errors.Error: the connection is closed, or one was acknowledged before.
        """
        await hpub.acknowledge(self._client, messages)

    def fail_refused_subject(self, subject: str, why: str) -> None:
        """Fail messages in flight on a subject that the server refused, given in lower case.

        The server's error names only the subject, and there is no reply. Without this, a publish
        would time out and report JetStream as slow.
        """
        for token, (pending, index) in list(self._pending.items()):
            if pending.subjects[index].lower() == subject:
                del self._pending[token]
                pending.settle(index, Forbidden(why))

    def set_acks_refused(self, why: str) -> None:
        """Fail all messages in flight, and all later ones: the server refused the ack inbox.

        Args:
            why: the text of each `Forbidden`; empty once acknowledgements can be received again.
        """
        self._acks_refused = why
        if not why:
            return
        for pending, index in list(self._pending.values()):
            pending.settle(index, Forbidden(why))
        self._pending.clear()

    async def _send(self, messages: Sequence[OutgoingMessage], within: float) -> PendingAcks:
        if not self._client.is_connected:
            raise Unavailable("NATS is not connected")
        if self._acks_refused:
            raise Forbidden(self._acks_refused)
        if not self._inbox:
            await self._subscribe()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within
        pending = PendingAcks(
            [message.subject for message in messages],
            deadline - self._total_lag + GRACE_SWEEPS * SWEEP_SECONDS,
            deadline + MAX_LAG_SECONDS,
        )
        first = self._next_token
        self._next_token += len(messages)
        self._enqueue(messages, pending, first)
        self._callers.add(pending)
        if self._sweep is None:
            self._sweep = loop.call_later(SWEEP_SECONDS, self._check_deadlines)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())
        try:
            await pending.wait()
        finally:
            self._callers.discard(pending)
            if pending.missing:
                for token in map(str, range(first, first + len(messages))):
                    self._pending.pop(token, None)
                    self._outgoing.pop(token, None)
        return pending

    def _enqueue(
        self, messages: Sequence[OutgoingMessage], pending: PendingAcks, first: int
    ) -> None:
        """Encode a caller's messages; their acknowledgement tokens start at `first`."""
        limit = self._client.max_payload
        for index, message in enumerate(messages):
            head = hpub.encode_headers(self._headers(message))
            if len(head) + len(message.body) > limit:
                size = len(message.body)
                pending.settle(index, TooLarge(f"{size} bytes are more than NATS takes ({limit})"))
                continue
            token = str(first + index)
            self._pending[token] = pending, index
            command = hpub.encode(message.subject, self._inbox + token, head, message.body)
            self._outgoing[token] = command

    def _headers(self, message: OutgoingMessage) -> Mapping[str, str]:
        if self.inject is None:
            return message.headers
        headers = dict(message.headers)
        self.inject(headers)
        return headers

    async def _subscribe(self) -> None:
        lock = self._subscribing
        async with lock:
            if self._inbox:
                return
            inbox = f"{self._client.new_inbox()}."
            try:
                await self._client.subscribe_inline(f"{inbox}*", self._on_ack)
            except (nats.errors.Error, OSError) as error:
                raise Unavailable(f"NATS: {error}") from error
            # Each connection has a lock of its own: see `_reset`.
            if lock is not self._subscribing:
                raise Unavailable("the connection to NATS was closed")
            self._inbox = inbox

    async def _write(self) -> None:
        while self._outgoing:
            outgoing, self._outgoing = self._outgoing, {}
            try:
                for commands in self._drop_expired(outgoing):
                    await hpub.write(self._client, commands)
            except (nats.errors.Error, OSError) as error:
                for token in outgoing:
                    if entry := self._pending.get(token):
                        entry[0].fail(f"NATS: {error}")

    def _drop_expired(self, outgoing: Mapping[str, bytes]) -> Iterator[list[bytes]]:
        """Yield the messages whose callers still wait, in chunks of about `WRITE_BYTES`.

        Deadlines are checked anew for each chunk. A process that was frozen may get here before the
        sweep has checked them. A message that is written after its caller's deadline would be in
        the stream although the caller got an error, and after anything the caller published since.
        """
        clock = asyncio.get_running_loop().time
        now, commands, size = clock(), list[bytes](), 0
        for token, command in outgoing.items():
            entry = self._pending.get(token)
            if entry is None:
                continue
            if entry[0].latest <= now:
                entry[0].fail(TOO_LATE)
                continue
            commands.append(command)
            size += len(command)
            if size >= WRITE_BYTES:
                yield commands
                now, commands, size = clock(), [], 0
        if commands:
            yield commands

    def _on_ack(self, message: Msg) -> None:
        entry = self._pending.pop(message.subject[len(self._inbox) :], None)
        if entry is None:
            return
        pending, index = entry
        if not message.data:
            # The server's "no responders": no leader of a stream subscribes to that subject.
            pending.settle(index, Unavailable("the stream has no leader now, or does not exist"))
            return
        reply = _decode_reply(message.data)
        pending.sequence = reply.seq
        pending.settle(index, None if reply.error is None else publish_error(reply.error))

    def _check_deadlines(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        due_at = self._sweep.when() if self._sweep else now
        is_needed = bool(self._callers)
        self._sweep = loop.call_later(SWEEP_SECONDS, self._check_deadlines) if is_needed else None
        # A loop that lags has not read all acknowledgements that have arrived. Its lag must not
        # count as JetStream's time. `latest` bounds this, as otherwise callers in a loop that
        # always lags would wait without end.
        self._total_lag += max(0.0, now - due_at)
        jetstream_time = now - self._total_lag
        for pending in self._callers:
            if pending.deadline <= jetstream_time or pending.latest <= now:
                pending.fail(TOO_LATE)

"""Publishes to JetStream: many messages in flight, each acknowledged, on one subscription.

nats-py's `publish` sets up a request and a timer for every message, which costs more than all the
rest of a webhook. Here every acknowledgement arrives on one subscription, one timer looks after all
deadlines, and what is published in one turn of the loop is written at once. Order on the wire is
the order of the calls. A deadline is about JetStream: what this process is late by itself is not
counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec
import nats.errors
from nats.aio.msg import Msg

from hogsend.contract.errors import Forbidden, HogsendError, TooLarge, Unavailable
from hogsend.transport import hpub
from hogsend.transport.jetstream_error import JetStreamError, publish_error
from hogsend.transport.nats_client import NatsClient

ACKNOWLEDGE_SECONDS = 2.0
"""How long JetStream may take to acknowledge one message unless the caller says otherwise."""
ACKNOWLEDGE_ALL_SECONDS = 5.0
"""The same for many messages at once."""
IN_FLIGHT = 1000
"""Messages of one batch that are published before the first acknowledgement is waited for."""

SWEEP_SECONDS = 0.005
SETTLING_SWEEPS = 3
"""Turns of the loop in which an acknowledgement that has arrived is read for certain."""
OWN_DELAY_SECONDS = 2.0
"""Most of the loop's own delay that is added to a caller's deadline."""

WRITE_BYTES = 1024 * 1024
"""What is written at once, about: it is copied, and the socket has to have room before the next."""

TOO_LATE = "JetStream did not acknowledge in time"

EXPECTED_LAST = "Nats-Expected-Last-Subject-Sequence"
"""Header that has a message stored only after the message of its subject with this sequence."""

Outcome = HogsendError | None
"""What became of a message: None when JetStream has it."""
Inject = Callable[[dict[str, str]], None]
"""Adds headers that belong to the caller's context, for example its trace."""


class OutgoingMessage(msgspec.Struct, frozen=True):
    """A message for a stream; its headers carry the id JetStream deduplicates by."""

    subject: str
    body: bytes
    headers: Mapping[str, str]


class _Acknowledgement(msgspec.Struct, frozen=True):
    """JetStream's answer to a publish (NATS ADR-1)."""

    error: JetStreamError | None = None
    seq: int = 0


_decode = msgspec.json.Decoder(_Acknowledgement).decode


class _PendingAcks:
    """The acknowledgements one caller waits for."""

    __slots__ = (
        "deadline",
        "done",
        "failed",
        "latest",
        "messages",
        "missing",
        "outcomes",
        "sequence",
    )

    def __init__(self, messages: Sequence[OutgoingMessage], deadline: float, latest: float) -> None:
        self.messages = messages
        self.outcomes: list[Outcome] = [None] * len(messages)
        self.missing = len(messages)
        self.deadline = deadline
        """By JetStream's time, of which the loop's own delays are no part."""
        self.latest = latest
        """By the clock."""
        self.sequence = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.failed = ""
        """Why not all are answered for, once `done`."""

    def settle(self, index: int, outcome: Outcome) -> None:
        self.outcomes[index] = outcome
        self.missing -= 1
        if not self.missing and not self.done.done():
            self.done.set_result(None)

    def fail(self, reason: str) -> None:
        if not self.done.done():
            self.failed = reason
            self.done.set_result(None)

    async def settled(self) -> None:
        """Wait until each has its outcome; raise `Unavailable` when one will have none."""
        await self.done
        if self.failed:
            raise Unavailable(self.failed)

    def result(self) -> int:
        """Give the sequence of the only message, or raise its outcome."""
        _raise_outcome(self.outcomes, 0)
        return self.sequence


class Publisher:
    """The one publisher of a connection."""

    def __init__(self, client: NatsClient) -> None:
        """Publish on `client`, which may connect later."""
        self._client = client
        self._next = 0
        self._pending: dict[str, tuple[_PendingAcks, int]] = {}
        self._callers: set[_PendingAcks] = set()
        self._own_delay = 0.0
        self._deaf = ""
        """Why acknowledgements are not heard."""
        self.inject: Inject | None = None
        self._begin()

    def _begin(self) -> None:
        """Have nothing of a connection, or of the event loop it was made in."""
        self._inbox = ""
        self._subscribing = asyncio.Lock()
        self._outgoing: dict[str, bytes] = {}
        """What is to be written, by the token under which it is acknowledged."""
        self._writing: asyncio.Task[None] | None = None
        self._sweep: asyncio.TimerHandle | None = None
        self.room = asyncio.Semaphore(IN_FLIGHT)
        """For who publishes messages one by one: more of them would time one another out."""

    def closed(self) -> None:
        """End what waits: the connection is closed. The next one may be of another event loop."""
        for pending in list(self._callers):
            pending.fail("the connection to NATS was closed")
        if self._sweep is not None:
            self._sweep.cancel()
        self._begin()

    async def publish(
        self, message: OutgoingMessage, *, within: float = ACKNOWLEDGE_SECONDS
    ) -> None:
        """Publish and wait until JetStream has the message, at most `within` seconds.

        Raises:
            Forbidden: the user of this connection may not publish on that subject.
            Unavailable: not connected, no acknowledgement in time, or the stream is full or
                missing. The message may be stored all the same; publishing it again is a repeat.
            TooLarge: larger than the server or the stream allows.
            PublishRejected: JetStream will never take this message.
        """
        (await self._send([message], within)).result()

    async def publish_and_get_sequence(
        self, message: OutgoingMessage, *, within: float = ACKNOWLEDGE_SECONDS
    ) -> int:
        """Publish as `publish` does; gives the message's sequence, for a repeat the first one's.

        Raises:
            WrongLastSequence: the subject's last message is not the one that `EXPECTED_LAST` names.
            HogsendError: as `publish`.
        """
        return (await self._send([message], within)).result()

    async def publish_all(
        self, messages: Sequence[OutgoingMessage], *, within: float = ACKNOWLEDGE_ALL_SECONDS
    ) -> list[Outcome]:
        """Publish many and wait for all acknowledgements, at most `within` seconds each thousand.

        Returns:
            An outcome for each message, in order: None, `TooLarge` or `PublishRejected`.

        Raises:
            Forbidden: the user of this connection may not publish on one of the subjects.
            Unavailable: not every message was answered for in time; all may be published again.
        """
        outcomes: list[Outcome] = []
        clock = asyncio.get_running_loop().time
        ends = clock()
        for start in range(0, len(messages), IN_FLIGHT):
            # Time that a process was frozen for is over for what is still to come, too.
            ends += within
            left = min(within, ends - clock())
            window = (await self._send(messages[start : start + IN_FLIGHT], left)).outcomes
            for index, outcome in enumerate(window):
                if isinstance(outcome, (Unavailable, Forbidden)):
                    del outcome
                    _raise_outcome(window, index)
            outcomes += window
        return outcomes

    async def acknowledge(self, messages: Sequence[hpub.Acknowledgeable]) -> None:
        """Take messages off their queue that came over this connection, all in one write.

        Raises:
            nats.errors.Error: the connection is closed, or one was acknowledged before.
        """
        await hpub.acknowledge(self._client, messages)

    def refused(self, subject: str, why: str) -> None:
        """End what waits for an acknowledgement on a refused subject, given in lower case.

        The server names the subject only, and answers nothing: without this the publisher would
        wait for its whole time and take JetStream for slow.
        """
        for token, (pending, index) in list(self._pending.items()):
            if pending.messages[index].subject.lower() == subject:
                del self._pending[token]
                pending.settle(index, Forbidden(why))

    def hears_nothing(self, why: str) -> None:
        """Refuse what waits, and what will, until `why` is empty: acknowledgements are not heard.

        Args:
            why: the text of each `Forbidden`.
        """
        self._deaf = why
        if not why:
            return
        for pending, index in list(self._pending.values()):
            pending.settle(index, Forbidden(why))
        self._pending.clear()

    async def _send(self, messages: Sequence[OutgoingMessage], within: float) -> _PendingAcks:
        if not self._client.is_connected:
            raise Unavailable("NATS is not connected")
        if self._deaf:
            raise Forbidden(self._deaf)
        if not self._inbox:
            await self._subscribe()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within
        pending = _PendingAcks(
            messages,
            deadline - self._own_delay + SETTLING_SWEEPS * SWEEP_SECONDS,
            deadline + OWN_DELAY_SECONDS,
        )
        first = self._next
        self._next += len(messages)
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
        self._callers.add(pending)
        if self._sweep is None:
            self._sweep = loop.call_later(SWEEP_SECONDS, self._expire)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())
        try:
            await pending.settled()
        finally:
            self._callers.discard(pending)
            if pending.missing:
                for token in map(str, range(first, first + len(messages))):
                    self._pending.pop(token, None)
                    self._outgoing.pop(token, None)
        return pending

    def _headers(self, message: OutgoingMessage) -> Mapping[str, str]:
        if self.inject is None:
            return message.headers
        headers = dict(message.headers)
        self.inject(headers)
        return headers

    async def _subscribe(self) -> None:
        connection = self._subscribing
        async with connection:
            if self._inbox:
                return
            inbox = f"{self._client.new_inbox()}."
            try:
                await self._client.subscribe_inline(f"{inbox}*", self._acknowledged)
            except (nats.errors.Error, OSError) as error:
                raise Unavailable(f"NATS: {error}") from error
            if connection is not self._subscribing:
                raise Unavailable("the connection to NATS was closed")
            self._inbox = inbox

    async def _write(self) -> None:
        while self._outgoing:
            outgoing, self._outgoing = self._outgoing, {}
            try:
                for commands in self._wanted(outgoing):
                    await hpub.write(self._client, commands)
            except (nats.errors.Error, OSError) as error:
                for token in outgoing:
                    if entry := self._pending.get(token):
                        entry[0].fail(f"NATS: {error}")

    def _wanted(self, outgoing: Mapping[str, bytes]) -> Iterator[list[bytes]]:
        """Those whose caller waits for them, in pieces, each as of the moment it is asked for.

        A process that was frozen may be here before it looks at any deadline. What is written after
        its caller's time would be on the stream behind what the caller knew, or tries again.
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

    def _acknowledged(self, message: Msg) -> None:
        entry = self._pending.pop(message.subject[len(self._inbox) :], None)
        if entry is None:
            return
        pending, index = entry
        if not message.data:
            # The server's "no responders": no leader of a stream listens on that subject.
            pending.settle(index, Unavailable("the stream has no leader now, or does not exist"))
            return
        acknowledgement = _decode(message.data)
        problem, pending.sequence = acknowledgement.error, acknowledgement.seq
        pending.settle(index, None if problem is None else publish_error(problem))

    def _expire(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        due = self._sweep.when() if self._sweep else now
        self._sweep = loop.call_later(SWEEP_SECONDS, self._expire) if self._callers else None
        # A loop that is late itself has acknowledgements it has not read yet: its delay must not
        # make JetStream slow. It has an end, or callers of one that stays late would never be told.
        self._own_delay += max(0.0, now - due)
        theirs = now - self._own_delay
        for pending in self._callers:
            if pending.deadline <= theirs or pending.latest <= now:
                pending.fail(TOO_LATE)


def _raise_outcome(outcomes: list[Outcome], index: int) -> None:
    """Raise the error that is an outcome, if it is one.

    A raised error leads, by its traceback, to every frame it passed through. One that such a frame
    keeps would hold all of them, and the caller's request, until garbage is collected.
    """
    outcome, outcomes[index] = outcomes[index], None
    try:
        if outcome is not None:
            raise outcome
    finally:
        del outcome

"""Publishing a batch to JetStream: all messages in flight at once, one wait for all answers."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec
import nats.errors
from nats.aio.msg import Msg

from hogsend.contract.errors import Unavailable
from hogsend.transport.hpub import send

if TYPE_CHECKING:
    from hogsend.transport.connection import Bus

ANSWER_SECONDS = 5.0
IN_FLIGHT = 1000
"""Messages published before the first answer is waited for."""

_TOO_LARGE = 10054
_HEADER_BYTES = 1024
"""More than the names of our headers and their framing take."""

_START, _APPEND, _COMMIT = range(3)


class Outgoing(msgspec.Struct, frozen=True):
    """A message for a stream."""

    subject: str
    body: bytes
    headers: Mapping[str, str]


class _Problem(msgspec.Struct, frozen=True):
    code: int
    err_code: int = 0
    description: str = ""


class _Answer(msgspec.Struct, frozen=True):
    type: str = ""
    """`ack`, `gap` or `err` while a batch is under way; empty in the answer that ends it."""
    count: int = 0
    error: _Problem | None = None


_decode = msgspec.json.Decoder(_Answer).decode
_NO_STREAM = _Answer(error=_Problem(503, description="no stream"))

_OnAnswer = Callable[[str, _Answer], None]


class Publisher:
    """Publishes to streams, on the service's own connection."""

    def __init__(self, bus: Bus) -> None:
        """Use `bus`; it may connect later."""
        self._bus = bus
        self._inbox = ""
        self._subscribing = asyncio.Lock()
        self._waiting: dict[str, _OnAnswer] = {}

    async def publish(self, messages: Sequence[Outgoing]) -> list[Outgoing]:
        """Publish to one stream, and wait until it has every message that it can take.

        Returns:
            Messages larger than the server or the stream allows.

        Raises:
            Unavailable: not every message was answered for in time; all may be published again.
        """
        limit = self._bus.max_payload
        fitting = [message for message in messages if _size(message) <= limit]
        too_large = [message for message in messages if _size(message) > limit]
        for start in range(0, len(fitting), IN_FLIGHT):
            window = fitting[start : start + IN_FLIGHT]
            if len(window) == 1 or not await self._publish_together(window):
                too_large += await self._publish_each(window)
        return too_large

    async def _publish_together(self, messages: Sequence[Outgoing]) -> bool:
        """Publish as a fast batch (ADR-50): JetStream drops repeats and answers once, for all.

        Returns:
            Whether the stream has them all. It may have some if not; published each for itself,
            these are dropped as repeats, and the others' answers say what is wrong with them.
        """
        batch = _FastBatch(len(messages))
        async with self._answers(batch.on_answer) as inbox:
            # Within the batch a missing message ends it ("fail"): its end means all are there.
            prefix = f"{inbox}.{IN_FLIGHT}.fail"
            client, last = self._bus.client, len(messages)
            connections = client.stats["reconnects"]
            await send(client, [(messages[0], f"{prefix}.1.{_START}.$FI")])
            # The stream or the server may not support batches; only the first message finds out.
            if not await asyncio.wait_for(batch.started, ANSWER_SECONDS):
                return False
            await send(
                client,
                (
                    (message, f"{prefix}.{n}.{_COMMIT if n == last else _APPEND}.$FI")
                    for n, message in enumerate(messages[1:], start=2)
                ),
            )
            stored = await asyncio.wait_for(batch.stored, ANSWER_SECONDS)
            # An error that one connection lost must not be outlived by the success of the next.
            return stored and client.stats["reconnects"] == connections

    async def _publish_each(self, messages: Sequence[Outgoing]) -> list[Outgoing]:
        """Publish with an answer for each; returns what is too large for the stream."""
        window = _Window(len(messages))
        async with self._answers(window.on_answer) as inbox:
            await send(
                self._bus.client,
                ((message, f"{inbox}.{number}") for number, message in enumerate(messages)),
            )
            refused = await asyncio.wait_for(window.answered, ANSWER_SECONDS)
        return [messages[number] for number in refused]

    @asynccontextmanager
    async def _answers(self, on_answer: _OnAnswer) -> AsyncIterator[str]:
        """Make an inbox for the length of the block; `on_answer` gets what arrives below it."""
        if not self._bus.connected:
            raise Unavailable("NATS is not connected")
        name = secrets.token_hex(16)
        self._waiting[name] = on_answer
        try:
            await self._subscribe()
            yield f"{self._inbox}{name}"
        except (nats.errors.Error, TimeoutError, OSError) as error:
            raise Unavailable(f"JetStream did not answer: {type(error).__name__}") from error
        finally:
            del self._waiting[name]

    async def _subscribe(self) -> None:
        async with self._subscribing:
            if not self._inbox:
                inbox = f"{self._bus.client.new_inbox()}."
                await self._bus.client.subscribe(f"{inbox}>", cb=self._dispatch)
                self._inbox = inbox

    async def _dispatch(self, message: Msg) -> None:
        name, _, rest = message.subject[len(self._inbox) :].partition(".")
        if on_answer := self._waiting.get(name):
            # The server's "no responders" is empty: no stream listens on that subject.
            on_answer(rest, _decode(message.data) if message.data else _NO_STREAM)


class GroupPublisher:
    """Publishes one message at a time for many callers: those that wait together go together.

    The first one goes at once; what is asked for meanwhile is published in one go after it.
    """

    def __init__(self, publisher: Publisher) -> None:
        """Publish with `publisher`, to one stream."""
        self._publisher = publisher
        self._waiting: list[tuple[Outgoing, asyncio.Future[bool]]] = []
        self._publishing: asyncio.Task[None] | None = None

    async def publish(self, message: Outgoing) -> bool:
        """Publish a message; False when it is larger than the server or the stream allows.

        Raises:
            Unavailable: it was not answered for in time, and may be published again.
        """
        accepted: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((message, accepted))
        if self._publishing is None or self._publishing.done():
            self._publishing = asyncio.create_task(self._publish_what_waits())
        return await accepted

    async def _publish_what_waits(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting[:IN_FLIGHT], self._waiting[IN_FLIGHT:]
            try:
                refused = await self._publisher.publish([message for message, _ in group])
            except BaseException as error:
                for _, accepted in group:
                    # One for each: a shared exception would gather everybody's traceback.
                    _fail(accepted, str(error) or "publishing was cut off")
                if isinstance(error, Unavailable):
                    continue
                for _, accepted in self._waiting:
                    _fail(accepted, "publishing was cut off")
                self._waiting.clear()
                raise
            too_large = set(map(id, refused))
            for message, accepted in group:
                if not accepted.done():
                    accepted.set_result(id(message) not in too_large)


def _fail(accepted: asyncio.Future[bool], reason: str) -> None:
    if not accepted.done():
        accepted.set_exception(Unavailable(reason))


class _FastBatch:
    """The answers to a fast batch."""

    def __init__(self, size: int) -> None:
        self._size = size
        loop = asyncio.get_running_loop()
        self.started: asyncio.Future[bool] = loop.create_future()
        self.stored: asyncio.Future[bool] = loop.create_future()

    def on_answer(self, _subject: str, answer: _Answer) -> None:
        under_way = answer.type == "ack"
        if not self.started.done():
            self.started.set_result(under_way)
        if not under_way and not self.stored.done():
            complete = not answer.type and answer.error is None and answer.count == self._size
            self.stored.set_result(complete)


class _Window:
    """The answers to messages published each for itself."""

    def __init__(self, size: int) -> None:
        self._missing = set(range(size))
        self._too_large: list[int] = []
        self.answered: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()

    def on_answer(self, subject: str, answer: _Answer) -> None:
        number = int(subject)
        self._missing.discard(number)
        if self.answered.done():
            return
        error = answer.error
        if error is not None and error.err_code == _TOO_LARGE:
            self._too_large.append(number)
        elif error is not None:
            self.answered.set_exception(Unavailable(f"JetStream refuses: {error.description}"))
            return
        if not self._missing:
            self.answered.set_result(self._too_large)


def _size(message: Outgoing) -> int:
    """Bytes that count against the server's limit, never less than they are."""
    return len(message.body) + _HEADER_BYTES + 4 * sum(map(len, message.headers.values()))

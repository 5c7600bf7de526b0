"""Publishing a batch to JetStream: all messages in flight at once, one wait for all answers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
import nats.errors
from nats.aio.msg import Msg

from hogsend.bus import Bus
from hogsend.errors import Unavailable

ANSWER_SECONDS = 5.0
IN_FLIGHT = 1000
"""Messages published before the first answer is waited for."""

_TOO_LARGE = 10054
_HEADER_BYTES = 1024
"""More than the names of our headers and their framing take."""


class Outgoing(msgspec.Struct, frozen=True):
    """A message for a stream; the headers carry its deduplication id."""

    subject: str
    body: bytes
    headers: dict[str, str]

    @property
    def size(self) -> int:
        """Bytes that count against the server's limit, never less than they are."""
        return len(self.body) + _HEADER_BYTES + 4 * sum(map(len, self.headers.values()))


class _Problem(msgspec.Struct, frozen=True):
    code: int
    err_code: int = 0
    description: str = ""


class _Answer(msgspec.Struct, frozen=True):
    error: _Problem | None = None


_decode = msgspec.json.Decoder(_Answer).decode


class Publisher:
    """Publishes batches on one connection."""

    def __init__(self, bus: Bus) -> None:
        """Use `bus`; it may connect later."""
        self._bus = bus
        self._inbox = ""
        self._subscribing = asyncio.Lock()
        self._batches = 0
        self._waiting: dict[str, _Batch] = {}

    async def publish(self, messages: Sequence[Outgoing]) -> list[Outgoing]:
        """Publish and wait until JetStream has every message that it can take.

        Returns:
            Messages larger than the server or the stream allows.

        Raises:
            Unavailable: not every message was answered for in time; all may be published again.
        """
        limit = self._bus.max_payload
        fitting = [message for message in messages if message.size <= limit]
        too_large = [message for message in messages if message.size > limit]
        for start in range(0, len(fitting), IN_FLIGHT):
            too_large += await self._publish_window(fitting[start : start + IN_FLIGHT])
        return too_large

    async def _publish_window(self, messages: Sequence[Outgoing]) -> list[Outgoing]:
        if not self._bus.connected:
            raise Unavailable("NATS is not connected")
        client = self._bus.client
        self._batches += 1
        name = str(self._batches)
        batch = self._waiting[name] = _Batch(len(messages))
        try:
            await self._subscribe()
            for number, message in enumerate(messages):
                await client.publish(
                    message.subject,
                    message.body,
                    reply=f"{self._inbox}{name}.{number}",
                    headers=message.headers,
                )
            refused = await asyncio.wait_for(batch.answered, ANSWER_SECONDS)
        except (nats.errors.Error, TimeoutError, OSError) as error:
            raise Unavailable(f"JetStream did not answer: {type(error).__name__}") from error
        finally:
            del self._waiting[name]
        return [messages[number] for number in refused]

    async def _subscribe(self) -> None:
        async with self._subscribing:
            if not self._inbox:
                inbox = f"{self._bus.client.new_inbox()}."
                await self._bus.client.subscribe(f"{inbox}>", cb=self._on_answer)
                self._inbox = inbox

    async def _on_answer(self, message: Msg) -> None:
        name, _, number = message.subject[len(self._inbox) :].partition(".")
        if batch := self._waiting.get(name):
            batch.answer(int(number), message.data)


class _Batch:
    """Answers to one window of messages."""

    def __init__(self, size: int) -> None:
        self._missing = set(range(size))
        self._too_large: list[int] = []
        self.answered: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()

    def answer(self, number: int, data: bytes) -> None:
        self._missing.discard(number)
        if self.answered.done():
            return
        # The server's "no responders" is empty: no stream listens on that subject.
        error = _decode(data).error if data else _Problem(503, description="no stream")
        if error is not None and error.err_code == _TOO_LARGE:
            self._too_large.append(number)
        elif error is not None:
            self.answered.set_exception(Unavailable(f"JetStream refuses: {error.description}"))
            return
        if not self._missing:
            self.answered.set_result(self._too_large)

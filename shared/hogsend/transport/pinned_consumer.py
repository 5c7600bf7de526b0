"""Reads a consumer that gives its messages to one reader at a time, in order.

JetStream pins such a consumer to a reader until it is not heard of for a while, or lets go (NATS
ADR-42). That alone keeps no order: what the reader before had in hand is delivered again only when
its `ack_wait` is over, and until then the new reader would get what comes after it. So a new reader
that finds something in others' hands makes the consumer again. On a work queue, whose messages are
gone once they are acknowledged, it then begins with the first that is not settled.

The reader before may still be at work, then both do the same: who reads the queue has to know
repeats. Each of the two goes from the first to the last, so that the first time of each comes in
order, too.
"""

from __future__ import annotations

import msgspec
import nats.errors
from nats.aio.msg import Msg
from nats.js import errors as js_errors

from hogsend.contract.consumers import API
from hogsend.contract.partitions import GROUP, PinnedConsumerConfig
from hogsend.transport.connection import MANAGEMENT_SECONDS, Connection
from hogsend.transport.jetstream_error import JetStreamError
from hogsend.transport.own_consumer import create_or_update
from hogsend.transport.pull import ANSWER_SECONDS, ConsumerGone, Pull, PullRequest
from hogsend.transport.read_failures import ReadFailures

PIN_ID = "Nats-Pin-Id"
WAIT_SECONDS = 2.0
"""How long one request for the next message stays open; well below the time of a pin."""
KEEPS_A_PIN = 3
"""How often a reader is heard of in the time of its pin."""

_OVERLAPS = 10100
"""JetStream's code for a consumer whose messages another one of the work queue already gets."""
_SMALLER_THAN_ANY = 1


class Overlaps(Exception):
    """Another consumer gets messages of this one, so that it cannot be made."""


class PinnedGroup(msgspec.Struct, frozen=True):
    """A priority group, and its reader."""

    pinned_client_id: str = ""


class PinnedState(msgspec.Struct, frozen=True):
    """What JetStream says of such a consumer."""

    num_pending: int = 0
    """Messages that were not delivered yet."""
    num_ack_pending: int = 0
    """Messages that were delivered, and are not acknowledged."""
    num_waiting: int = 0
    """Requests that are open."""
    priority_groups: list[PinnedGroup] = []
    error: JetStreamError | None = None

    @property
    def pinned(self) -> bool:
        """Whether a reader has it."""
        return any(group.pinned_client_id for group in self.priority_groups)


class PinnedConsumer:
    """One reader of such a consumer."""

    def __init__(self, connection: Connection, stream: str, config: PinnedConsumerConfig) -> None:
        """Prepare without asking.

        Args:
            connection: may connect later.
            stream: a work queue.
            config: made when missing.
        """
        self._connection = connection
        self._stream = stream
        self._config = config
        self._pull: Pull | None = None
        self._pin = ""
        self.pin_seconds = config.priority_timeout / 1e9
        self.failures = ReadFailures(connection, stream, config.durable_name)
        """For who reads it again and again."""

    @property
    def name(self) -> str:
        """The consumer's name."""
        return str(self._config.durable_name)

    @property
    def pinned(self) -> bool:
        """Whether it gives its messages to this reader, as far as is known."""
        return bool(self._pin)

    async def make(self) -> None:
        """Make the consumer unless it exists.

        Raises:
            Overlaps: another consumer has some of its messages.
            nats.errors.Error: JetStream cannot be reached, or refuses.
        """
        try:
            await create_or_update(self._connection.js, self._stream, self._config)
        except js_errors.APIError as error:
            if error.err_code == _OVERLAPS:
                raise Overlaps(self.name) from error
            raise

    async def first(self) -> list[Msg]:
        """Wait for the next message; gives none when none came, or it is not for this reader.

        Raises:
            ConsumerGone: there is no such consumer.
            nats.errors.Error: JetStream cannot be reached, or another has become its reader.
        """
        pull = await self._started()
        wait = min(WAIT_SECONDS, self.pin_seconds / KEEPS_A_PIN)
        request = PullRequest(1, round(wait * 1e9), group=GROUP, id=self._pin)
        messages = await self._ask(pull, request, wait + ANSWER_SECONDS)
        if messages and (pin := (messages[0].headers or {}).get(PIN_ID, "")) != self._pin:
            if (await self.state()).num_ack_pending > len(messages):
                await self.begin_again()
                return []
            self._pin = pin
        return messages

    async def more(self, batch: int) -> list[Msg]:
        """Give what is there behind the first message, at most `batch`.

        Raises:
            ConsumerGone: as `first`; what was given before is then another reader's, too.
            nats.errors.Error: likewise.
        """
        if batch < 1:
            return []
        pull = await self._started()
        request = msgspec.structs.replace(pull.what_is_there(batch), group=GROUP, id=self._pin)
        return await self._ask(pull, request, ANSWER_SECONDS)

    async def keep(self) -> None:
        """Stay the reader for another while, without another message.

        No message is as small as what is asked for.
        """
        if self._pull is None or not self._pin:
            return
        request = PullRequest(
            1, no_wait=True, max_bytes=_SMALLER_THAN_ANY, group=GROUP, id=self._pin
        )
        await self._pull.tell(request)

    async def state(self) -> PinnedState:
        """Ask for its state.

        Raises:
            nats.errors.Error: JetStream cannot be reached.
            ConsumerGone: there is no such consumer.
        """
        subject = f"{API}.CONSUMER.INFO.{self._stream}.{self.name}"
        answer = await self._connection.request_raw(subject, b"", seconds=MANAGEMENT_SECONDS)
        found = msgspec.json.decode(answer.data, type=PinnedState)
        if found.error is not None:
            raise ConsumerGone(found.error.description)
        return found

    async def release(self) -> None:
        """Let another be the reader; whatever this one has in hand, that one gets again.

        Raises:
            nats.errors.Error: JetStream cannot be reached; then it is another's when time is over.
        """
        if not self._pin:
            return
        self._pin = ""
        subject = f"{API}.CONSUMER.UNPIN.{self._stream}.{self.name}"
        body = msgspec.json.encode({"group": GROUP})
        await self._connection.request_raw(subject, body, seconds=MANAGEMENT_SECONDS)

    async def stop(self) -> None:
        """Stop listening; what it has in hand is the next reader's."""
        pull, self._pull, self._pin = self._pull, None, ""
        if pull is not None:
            await pull.stop()

    async def begin_again(self) -> None:
        """Make the consumer anew, so that it begins with the first message that is not settled.

        Raises:
            nats.errors.Error: JetStream cannot be reached.
        """
        await self.stop()
        try:
            await self._connection.js.delete_consumer(self._stream, self.name)
        except js_errors.NotFoundError:
            # Another reader has done it.
            return
        self._connection.observe("consumer", f"{self.name} begins again with what is not settled")

    async def _started(self) -> Pull:
        if self._pull is None:
            await self.make()
            pull = Pull(self._connection, self._stream, self.name)
            await pull.start()
            self._pull = pull
        return self._pull

    async def _ask(self, pull: Pull, request: PullRequest, seconds: float) -> list[Msg]:
        try:
            messages = await pull.ask(request, seconds)
            if pull.answered:
                return messages
        except BaseException:
            # What is on its way is lost: as the same reader this one would get what comes after.
            await self.stop()
            raise
        await self.stop()
        raise nats.errors.TimeoutError

"""Reads a consumer that delivers to one reader at a time, in order.

JetStream pins such a consumer to one reader, until that reader sends no request for the length of
the pin or releases it (NATS ADR-42). Pinning alone does not keep the order: unacknowledged messages
of the previous reader are redelivered only after their `ack_wait`, and until then the new reader
would receive later messages. So a new reader that finds unacknowledged messages deletes and
recreates the consumer. On a work queue, which drops a message once it is acknowledged, the new
consumer starts with the first unacknowledged message.

The previous reader may still be processing its messages, so that both process the same ones: the
processing has to handle repeats. Each of the two processes them in order, so that the first
processing of each message is in order, too.
"""

from __future__ import annotations

import msgspec
import nats.errors
from nats.aio.msg import Msg
from nats.js import errors as js_errors

from hogsend.contract.consumers import API
from hogsend.contract.partitions import GROUP, PinnedConsumerConfig
from hogsend.transport.connection import Connection
from hogsend.transport.jetstream import MANAGEMENT_SECONDS
from hogsend.transport.jetstream_error import JetStreamError
from hogsend.transport.own_consumer import create_or_update
from hogsend.transport.pull import REPLY_SECONDS, ConsumerGone, Pull, PullRequest
from hogsend.transport.read_failures import ReadFailures

PIN_ID = "Nats-Pin-Id"
WAIT_SECONDS = 2.0
"""How long a pull request waits for the next message; well below the length of a pin."""
EXTENSIONS_PER_PIN = 3
"""How many requests a reader sends within the length of its pin."""

_FILTER_NOT_UNIQUE = 10100
"""JetStream's code for a consumer whose filter overlaps that of another one of the work queue."""
_SMALLER_THAN_ANY_MESSAGE = 1


class OverlappingConsumer(Exception):
    """The consumer cannot be created: another one of the work queue reads some of its subjects."""


class PinnedGroup(msgspec.Struct, frozen=True):
    """A priority group, and the reader it is pinned to."""

    pinned_client_id: str = ""


class PinnedState(msgspec.Struct, frozen=True):
    """JetStream's report on such a consumer."""

    num_pending: int = 0
    """Messages that were not delivered yet."""
    num_ack_pending: int = 0
    """Messages that were delivered and are not acknowledged."""
    num_waiting: int = 0
    """Open pull requests."""
    priority_groups: list[PinnedGroup] = []
    error: JetStreamError | None = None

    @property
    def is_pinned(self) -> bool:
        """Whether the consumer is pinned to a reader."""
        return any(group.pinned_client_id for group in self.priority_groups)


class PinnedConsumer:
    """One of the readers that compete for such a consumer."""

    def __init__(self, connection: Connection, stream: str, config: PinnedConsumerConfig) -> None:
        """Prepare without a request.

        Args:
            connection: may connect later.
            stream: a work queue.
            config: the consumer is created with it when missing.
        """
        self._connection = connection
        self._stream = stream
        self._config = config
        self._pull: Pull | None = None
        self._pin = ""
        self.pin_seconds = config.priority_timeout / 1e9
        self.failures = ReadFailures(connection, stream, config.durable_name)
        """Where the caller records each attempt to read that failed or succeeded."""

    @property
    def name(self) -> str:
        """The consumer's name."""
        return str(self._config.durable_name)

    @property
    def is_pinned(self) -> bool:
        """Whether the consumer was pinned to this reader at the last delivery."""
        return bool(self._pin)

    async def ensure(self) -> None:
        """Create the consumer unless it exists.

        Raises:
            OverlappingConsumer: another consumer reads some of its subjects.
            nats.errors.Error: JetStream cannot be reached, or refuses.
        """
        try:
            await create_or_update(self._connection.js, self._stream, self._config)
        except js_errors.APIError as error:
            if error.err_code == _FILTER_NOT_UNIQUE:
                raise OverlappingConsumer(self.name) from error
            raise

    async def wait_for_first(self) -> list[Msg]:
        """Wait for the next message.

        Returns:
            The message. Empty when none came in time, and when the consumer had to be recreated
            because of another reader's unacknowledged messages.

        Raises:
            ConsumerGone: there is no such consumer.
            nats.errors.Error: JetStream cannot be reached, or the pin has gone to another reader.
        """
        pull = await self._started()
        wait = min(WAIT_SECONDS, self.pin_seconds / EXTENSIONS_PER_PIN)
        request = PullRequest(1, round(wait * 1e9), group=GROUP, id=self._pin)
        messages = await self._request(pull, request, wait + REPLY_SECONDS)
        if messages and (pin := (messages[0].headers or {}).get(PIN_ID, "")) != self._pin:
            if (await self.info()).num_ack_pending > len(messages):
                await self.recreate()
                return []
            self._pin = pin
        return messages

    async def fetch_more(self, batch: int) -> list[Msg]:
        """Return messages that are available after the first one, at most `batch`.

        Raises:
            ConsumerGone: as `wait_for_first`. Messages that were returned before are then delivered
                to another reader, too.
            nats.errors.Error: likewise.
        """
        if batch < 1:
            return []
        pull = await self._started()
        request = msgspec.structs.replace(pull.no_wait_request(batch), group=GROUP, id=self._pin)
        return await self._request(pull, request, REPLY_SECONDS)

    async def extend_pin(self) -> None:
        """Keep the pin for its full length from now on, without receiving a message.

        The pull request has a byte limit that every message exceeds.
        """
        if self._pull is None or not self._pin:
            return
        request = PullRequest(
            1, no_wait=True, max_bytes=_SMALLER_THAN_ANY_MESSAGE, group=GROUP, id=self._pin
        )
        await self._pull.publish_request(request)

    async def info(self) -> PinnedState:
        """Request the consumer's state.

        Raises:
            nats.errors.Error: JetStream cannot be reached.
            ConsumerGone: there is no such consumer.
        """
        subject = f"{API}.CONSUMER.INFO.{self._stream}.{self.name}"
        reply = await self._connection.request_raw(subject, b"", seconds=MANAGEMENT_SECONDS)
        state = msgspec.json.decode(reply.data, type=PinnedState)
        if state.error is not None:
            raise ConsumerGone(state.error.description)
        return state

    async def unpin(self) -> None:
        """Release the pin. The next reader receives this one's unacknowledged messages again.

        Raises:
            nats.errors.Error: JetStream cannot be reached; the pin then ends by its timeout.
        """
        if not self._pin:
            return
        self._pin = ""
        subject = f"{API}.CONSUMER.UNPIN.{self._stream}.{self.name}"
        body = msgspec.json.encode({"group": GROUP})
        await self._connection.request_raw(subject, body, seconds=MANAGEMENT_SECONDS)

    async def stop(self) -> None:
        """Unsubscribe. The next reader receives this one's unacknowledged messages again."""
        pull, self._pull, self._pin = self._pull, None, ""
        if pull is not None:
            await pull.stop()

    async def recreate(self) -> None:
        """Delete the consumer; the next read creates it at the first unacknowledged message.

        Raises:
            nats.errors.Error: JetStream cannot be reached.
        """
        await self.stop()
        try:
            await self._connection.js.delete_consumer(self._stream, self.name)
        except js_errors.NotFoundError:
            # Another reader has deleted it.
            return
        self._connection.observe(
            "consumer", f"{self.name} restarts at the first unacknowledged message"
        )

    async def _started(self) -> Pull:
        if self._pull is None:
            await self.ensure()
            pull = Pull(self._connection, self._stream, self.name)
            await pull.start()
            self._pull = pull
        return self._pull

    async def _request(self, pull: Pull, request: PullRequest, seconds: float) -> list[Msg]:
        try:
            messages = await pull.request(request, seconds)
            if pull.is_reply_complete:
                return messages
        except BaseException:
            # Messages on their way to this reader are lost. With its pin kept, the reader would
            # receive later messages before them.
            await self.stop()
            raise
        await self.stop()
        raise nats.errors.TimeoutError

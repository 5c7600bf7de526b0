"""A FastStream subscriber on a durable consumer, one message at a time.

FastStream's own pull subscriber waits without end for a consumer that was deleted, and lets
JetStream redeliver what a slow handler still works on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast

from faststream._internal.endpoint.subscriber.call_item import CallsCollection
from faststream.message import StreamMessage
from faststream.middlewares import AckPolicy
from faststream.nats import JStream, PullSub
from faststream.nats.message import NatsMessage
from faststream.nats.parser import JsParser
from faststream.nats.subscriber.config import (
    NatsSubscriberConfig,
    NatsSubscriberSpecificationConfig,
)
from faststream.nats.subscriber.specification import NatsSubscriberSpecification
from faststream.nats.subscriber.usecases import PullStreamSubscriber
from faststream.response import Response
from nats.aio.msg import Msg
from nats.js.api import AckPolicy as JetStreamAckPolicy
from nats.js.api import ConsumerConfig

from hogsend.client.decoding import CannotDecode, Decoder, Undecodable, told
from hogsend.client.subscriptions import ChangesHeard
from hogsend.contract.credentials import CredentialChanged
from hogsend.contract.errors import HogsendError
from hogsend.transport.connection import Connection
from hogsend.transport.consumer import Consumer
from hogsend.transport.errors import UNREACHABLE
from hogsend.transport.follower import Follower
from hogsend.transport.in_flight import InFlightMessages

if TYPE_CHECKING:
    from faststream.nats.configs import NatsBrokerConfig

RETRY_SECONDS = 5.0
"""A message whose handler failed is redelivered after this long, and what was refused is asked for
again."""
NAK_SECONDS = 0.1

_READ: ContextVar[Any] = ContextVar("hogsend_read")
"""What was read of the message that is being handed over."""

log = logging.getLogger(__name__)


class _Specification(NatsSubscriberSpecification):
    """What an AsyncAPI document says of a subscriber."""

    def _channel_key(self, address: str, *, split: bool) -> str:
        # AsyncAPI's parser takes `%20` in a key for a space, and then finds no such channel. No
        # subject of ours has a `=`, so keys stay apart; the channel's address is the subject.
        return super()._channel_key(address.replace("%", "="), split=split)


class ConsumedMessage(NatsMessage):
    """A message that is not redelivered at once when its handler fails."""

    async def nack(self, delay: float | None = RETRY_SECONDS) -> None:
        """Give it back, to be redelivered after `delay` seconds."""
        await super().nack(delay)


class ConsumerSubscriber(PullStreamSubscriber):
    """Hands out one message after the other; it is acknowledged when its handler has returned."""

    def __init__(
        self,
        stream: str,
        consumer: ConsumerConfig,
        broker_config: NatsBrokerConfig,
        *,
        decoder: Decoder[Any],
        undecodable: Undecodable | None,
    ) -> None:
        """Consume `stream` with `consumer`, made when missing, and again when it was deleted.

        Only what `decoder` takes reaches the handler; of the rest `undecodable` is told.
        """
        subject, subjects = consumer.filter_subject or "", consumer.filter_subjects or []
        unacknowledged = consumer.ack_policy is JetStreamAckPolicy.NONE
        calls: CallsCollection[Any] = CallsCollection()
        config = NatsSubscriberConfig(
            subject=subject,
            sub_config=ConsumerConfig(filter_subjects=subjects),
            _outer_config=broker_config,
            _ack_policy=AckPolicy.MANUAL if unacknowledged else AckPolicy.NACK_ON_ERROR,
        )
        specification = _Specification(
            _outer_config=broker_config,
            calls=calls,
            specification_config=NatsSubscriberSpecificationConfig(
                subject=subject,
                filter_subjects=subjects,
                queue=consumer.durable_name,
                title_=None,
                description_=None,
                include_in_schema=True,
            ),
        )
        super().__init__(
            config,
            specification,
            calls,
            queue="",
            pull_sub=cast("Any", PullSub()),
            stream=JStream(stream, declare=False),
        )
        self._parser = _parse(JsParser(pattern=subject))
        if decoder.is_typed:
            # FastStream would make the caller's type of what Python makes of JSON, where a number
            # has lost its last zero and `msgspec.Raw` cannot be made of anything.
            self._decoder = _as_read
        self._consumer = consumer
        self._acknowledges = not unacknowledged
        self._readable = decoder
        self._undecodable = undecodable
        self._source: Consumer | None = None

    async def stop(self) -> None:
        """Take no more messages, and give back the one that was not finished in time."""
        # A handler that raises `StopConsume` has the task that reads stop its own subscriber. It
        # ends by itself then: it cannot be waited for, and cancelled it could not do so.
        self.tasks = [task for task in self.tasks if task is not asyncio.current_task()]
        tasks = list(self.tasks)
        await super().stop()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._source is not None:
            await self._source.delete_ephemeral()

    async def _create_subscription(self) -> None:
        link = cast("Connection", self._outer_config.extra_context["broker"].link)
        source = Consumer(link, self.stream.name, self._consumer, batch=1, adjust=False)
        self._source = source
        # A consumer that is not ours keeps the app from starting; JetStream may come later.
        with suppress(*UNREACHABLE):
            await source.ensure()
        self.add_task(self._again_when_refused, func_args=(self._consume, link, source))

    async def _again_when_refused(self, read: Callable[..., Awaitable[None]], *given: Any) -> None:
        """Read to the end; what is refused in between is asked for again after a while."""
        while True:
            try:
                await read(*given)
            except HogsendError as error:
                # FastStream would begin again at once, as often as it fails, and say so once.
                log.error("%s cannot be read: %s", self.stream.name, error)  # noqa: TRY400
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    async def _consume(self, link: Connection, source: Consumer) -> None:
        async with aclosing(source.batches()) as batches:
            async for messages in batches:
                in_flight = _in_flight(link, messages, source.heartbeat)
                async with in_flight.keeping_alive(NAK_SECONDS):
                    await self._handled(messages[0])
                    if self.running:
                        # What a handler skips comes again no sooner than what it fails at.
                        await in_flight.nak_all(RETRY_SECONDS)
                if not self.running:
                    return

    async def _handled(self, message: Msg) -> None:
        try:
            await self.consume(message)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # The handler waited for something that was cancelled. That is a failure like any other,
            # and FastStream would take no more messages, without a word.
            log.exception("the handler of %s failed", message.subject, exc_info=error)

    async def process_message(self, msg: Msg) -> Response:
        """Hand over what the handler takes; FastStream's test broker begins here, too."""
        try:
            read = self._readable.decode(msg)
        except CannotDecode as error:
            await self._set_aside(msg, error)
        else:
            if self._is_wanted(read):
                handed_over = _READ.set(read)
                try:
                    return await super().process_message(msg)
                finally:
                    _READ.reset(handed_over)
        return Response(None)

    def _is_wanted(self, _read: Any) -> bool:
        return True

    async def _set_aside(self, message: Msg, error: CannotDecode) -> None:
        done = False
        if self._undecodable is None:
            log.error("%s", error)
        else:
            try:
                await told(self._undecodable, error)
                done = True
            except Exception:
                # As a handler that raises: the loop goes on, and the message comes again.
                log.exception("the handler of undecodable messages failed: %s", error)
        if not self._acknowledges:
            return
        if done:
            await message.ack()
        else:
            await message.nak(RETRY_SECONDS)


class ChangeSubscriber(ConsumerSubscriber):
    """Hands out credential changes, none twice, and acknowledges none."""

    def __init__(
        self, stream: str, consumer: ConsumerConfig, broker_config: NatsBrokerConfig
    ) -> None:
        """Follow `stream` with `consumer`."""
        super().__init__(
            stream,
            consumer,
            broker_config,
            decoder=Decoder(CredentialChanged),
            undecodable=None,
        )
        self._heard = ChangesHeard()

    async def _create_subscription(self) -> None:
        link = cast("Connection", self._outer_config.extra_context["broker"].link)
        source = Follower(link, self.stream.name, self._consumer)
        # See `ConsumerSubscriber`.
        with suppress(*UNREACHABLE):
            await source.ensure()
        self.add_task(self._again_when_refused, func_args=(self._follow, source))

    async def _follow(self, source: Follower) -> None:
        while messages := await source.next():
            for message in messages:
                await self._handled(message)
                if not self.running:
                    return

    def _is_wanted(self, read: Any) -> bool:
        return self._heard.is_news(read)


def _in_flight(link: Connection, messages: list[Msg], interval: float) -> InFlightMessages:
    in_flight = InFlightMessages(
        link,
        lambda what, error: link.observe("error", f"{what} of an event: {error}"),
        interval=interval,
    )
    in_flight.add(messages)
    return in_flight


async def _as_read(_message: StreamMessage[Msg]) -> Any:
    return _READ.get()


def _parse(parser: JsParser) -> Any:
    async def parse(message: Msg) -> StreamMessage[Msg]:
        parsed = await parser.parse_message(message)
        return ConsumedMessage(
            raw_message=message,
            body=parsed.body,
            path=parsed.path,
            headers=parsed.headers,
            content_type=parsed.content_type,
            message_id=message.headers.get("Nats-Msg-Id") if message.headers else None,
            correlation_id=message.headers.get("Hogsend-Correlation-Id")
            if message.headers
            else None,
        )

    return parse

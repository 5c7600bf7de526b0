"""FastStream subscribers for events and credential changes, one message at a time.

FastStream's own pull subscriber waits without end for a consumer that was deleted, and sends no
heartbeats, so that JetStream redelivers a message that a slow handler is still processing.
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

from hogsend.client.decoding import CannotDecode, Decoder, Undecodable, call_undecodable
from hogsend.client.subscriptions import SeenChanges
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
"""Delay before a message is redelivered whose handler failed, and before a refused consumer is
tried again."""
NAK_SECONDS = 0.1
"""Delay before a message is redelivered that is not handled when its subscriber stops."""

_DECODED: ContextVar[Any] = ContextVar("hogsend_decoded")
"""The decoded message that is being passed to the handler."""

log = logging.getLogger(__name__)


class _Specification(NatsSubscriberSpecification):
    """The part of a subscriber in the AsyncAPI document."""

    def _channel_key(self, address: str, *, split: bool) -> str:
        # AsyncAPI's parser decodes `%20` in a key, and then does not find the channel. Hogsend's
        # subjects do not contain `=`, so that keys stay unique. The channel's address keeps the
        # subject.
        return super()._channel_key(address.replace("%", "="), split=split)


class ConsumedMessage(NatsMessage):
    """A message that is redelivered after a delay when its handler fails."""

    async def nack(self, delay: float | None = RETRY_SECONDS) -> None:
        """Nak the message, to be redelivered after `delay` seconds."""
        await super().nack(delay)


class ConsumerSubscriber(PullStreamSubscriber):
    """Passes one message after the other to the handler, and acknowledges it when that returns."""

    def __init__(
        self,
        stream: str,
        consumer: ConsumerConfig,
        broker_config: NatsBrokerConfig,
        *,
        decoder: Decoder[Any],
        undecodable: Undecodable | None,
    ) -> None:
        """Read `stream` with `consumer`, which is created when missing, also after a deletion.

        A message that `decoder` cannot decode is passed to `undecodable`, not to the handler.
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
            # FastStream would convert Python's decoded JSON into the caller's type. There a number
            # has lost its trailing zeros, and nothing converts into `msgspec.Raw`.
            self._decoder = _decoded
        self._consumer = consumer
        self._acknowledges = not unacknowledged
        self._event_decoder = decoder
        self._undecodable = undecodable
        self._source: Consumer | None = None

    async def stop(self) -> None:
        """Stop reading, and nak a message that is not handled in time."""
        # After `StopConsume` of a handler, the reading task itself runs this. It ends afterwards,
        # and can neither be awaited nor cancelled here.
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
        # A conflict or refusal prevents the start of the app. JetStream may become available later.
        with suppress(*UNREACHABLE):
            await source.ensure()
        self.add_task(self._retry_when_refused, func_args=(self._consume, link, source))

    async def _retry_when_refused(self, read: Callable[..., Awaitable[None]], *args: Any) -> None:
        """Run `read` until it returns, and run it again `RETRY_SECONDS` after a refusal."""
        while True:
            try:
                await read(*args)
            except HogsendError as error:
                # FastStream would retry without a pause, and log only the first error.
                log.error("%s cannot be read: %s", self.stream.name, error)  # noqa: TRY400
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    async def _consume(self, link: Connection, source: Consumer) -> None:
        async with aclosing(source.batches()) as batches:
            async for messages in batches:
                in_flight = _in_flight(link, messages, source.heartbeat)
                async with in_flight.keeping_alive(NAK_SECONDS):
                    await self._handle(messages[0])
                    if self.running:
                        # A message without an acknowledgement counts as failed.
                        await in_flight.nak_all(RETRY_SECONDS)
                if not self.running:
                    return

    async def _handle(self, message: Msg) -> None:
        try:
            await self.consume(message)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # The handler awaited a task that was cancelled. It counts as failed: FastStream would
            # silently stop reading.
            log.exception("the handler of %s failed", message.subject, exc_info=error)

    async def process_message(self, msg: Msg) -> Response:
        """Decode a message and pass it to the handler. FastStream's test broker calls this, too."""
        try:
            decoded = self._event_decoder.decode(msg)
        except CannotDecode as error:
            await self._handle_undecodable(msg, error)
        else:
            if self._is_accepted(decoded):
                token = _DECODED.set(decoded)
                try:
                    return await super().process_message(msg)
                finally:
                    _DECODED.reset(token)
        return Response(None)

    def _is_accepted(self, _decoded: Any) -> bool:
        return True

    async def _handle_undecodable(self, message: Msg, error: CannotDecode) -> None:
        is_handled = False
        if self._undecodable is None:
            log.error("%s", error)
        else:
            try:
                await call_undecodable(self._undecodable, error)
                is_handled = True
            except Exception:
                # As with a handler that raises: reading continues, and the message is redelivered.
                log.exception("the handler of undecodable messages failed: %s", error)
        if not self._acknowledges:
            return
        if is_handled:
            await message.ack()
        else:
            await message.nak(RETRY_SECONDS)


class ChangeSubscriber(ConsumerSubscriber):
    """Passes credential changes to the handler, none twice, without acknowledgements."""

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
        self._seen = SeenChanges()

    async def _create_subscription(self) -> None:
        link = cast("Connection", self._outer_config.extra_context["broker"].link)
        source = Follower(link, self.stream.name, self._consumer)
        # See `ConsumerSubscriber`.
        with suppress(*UNREACHABLE):
            await source.ensure()
        self.add_task(self._retry_when_refused, func_args=(self._follow, source))

    async def _follow(self, source: Follower) -> None:
        while messages := await source.next():
            for message in messages:
                await self._handle(message)
                if not self.running:
                    return

    def _is_accepted(self, decoded: Any) -> bool:
        return self._seen.is_newer(decoded)


def _in_flight(link: Connection, messages: list[Msg], interval: float) -> InFlightMessages:
    in_flight = InFlightMessages(
        link,
        lambda operation, error: link.observe("error", f"{operation} of an event: {error}"),
        interval=interval,
    )
    in_flight.add(messages)
    return in_flight


async def _decoded(_message: StreamMessage[Msg]) -> Any:
    return _DECODED.get()


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

"""The two subscribers of ours under FastStream's routers, and why its own do not do.

This is the only place that reaches behind FastStream's public face (0.7). Measured on two shared
cores, CPU of the answering process:

- A request costs 225 us with FastStream's own `CoreSubscriber`, of which 80 us are NATS and the
  handler; with `max_workers`, 550 us. `RequestSubscriber` costs 85 us: no stack of contexts, no
  address templates compiled for a log line that is not written, no FastDepends for a handler that
  takes nothing but its request. It answers many at a time, and a stop drops none of them, where
  FastStream forgets what was received and not begun.
- `PullSub(batch=True)` waits until the batch is full or its time is over: with 50 ms a lone message
  waits 32 ms. It also acknowledges a batch as a whole, and does not make a deleted consumer again.
  `BatchSubscriber` hands out what is there at once (see `hogsend.transport.consumer`).

Both run FastStream's own `process_message` as soon as a middleware needs more than `consume_scope`,
which is the case with tracing, and under FastStream's test broker.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import msgspec
import nats.errors
import structlog
from faststream._internal.endpoint.subscriber.call_item import CallsCollection
from faststream.message import StreamMessage
from faststream.middlewares import AckPolicy
from faststream.nats import JStream, PullSub
from faststream.nats.message import NatsMessage
from faststream.nats.subscriber.config import (
    NatsSubscriberConfig,
    NatsSubscriberSpecificationConfig,
)
from faststream.nats.subscriber.specification import NatsSubscriberSpecification
from faststream.nats.subscriber.usecases import BatchPullStreamSubscriber, CoreSubscriber
from faststream.response import Response, ensure_response
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig

from hogsend.contract.errors import InvalidRequest, TooLarge
from hogsend.contract.json_text import replace_lone_surrogates
from hogsend.contract.registry import Endpoint
from hogsend.service import metrics
from hogsend.service.middlewares import ErrorReply, ScopeMiddleware
from hogsend.service.requester import has_requester
from hogsend.service.tasks import cancel_all
from hogsend.service.turns import PATIENCE_SECONDS, Turns
from hogsend.transport.connection import Connection, pending_bytes
from hogsend.transport.consumer import Consumer
from hogsend.transport.messages_in_hand import HEARTBEAT_SECONDS, MessagesInHand
from hogsend.transport.own_consumer import Position
from hogsend.transport.pull import BATCH_BYTES

if TYPE_CHECKING:
    from faststream.nats.configs import NatsBrokerConfig

log = structlog.get_logger(__name__)

ANSWER_SECONDS = 10.0
"""Longest a handler may take, in seconds, unless its endpoint's deadline is longer."""
MAX_CONCURRENT = 64
"""Requests one endpoint of a process answers at a time; more wait in NATS' client."""
MAX_CONCURRENT_BYTES = 8 * 1024 * 1024
"""How large these may be together, or one that is larger."""
DRAIN_SECONDS = 8.0
"""How long requests under way may take once a service was told to stop: it ends within ten."""

RETRY_SECONDS = 30.0
"""A message that failed for an unknown reason is redelivered after this long."""
ATTEMPT_SECONDS = 2.0
"""Pause between two attempts at a message that those behind it wait for."""
NAK_SECONDS = 1.0
"""What is given back is redelivered after this long; sooner, our own open request would get it."""

_NO_ID = "-"

OnNak = Callable[[int], None]


class RequestSubscriber(CoreSubscriber):
    """Answers the requests of one endpoint."""

    def __init__(self, endpoint: Endpoint[Any, Any], broker_config: NatsBrokerConfig) -> None:
        """Answer `endpoint` in its service's queue group."""
        config, specification, calls = _parts(endpoint.subject, endpoint.service, broker_config)
        super().__init__(config, specification, calls, queue=endpoint.service)
        self._parser, self._decoder = _parse_request, decoder_of(endpoint.request)
        self.endpoint = endpoint
        self._patience = max(ANSWER_SECONDS, endpoint.deadline)
        self._slots = asyncio.Semaphore(MAX_CONCURRENT)
        self._bytes = 0
        self._room = asyncio.Event()
        self._answering: set[asyncio.Task[Any]] = set()
        self._lean = False

    async def start(self) -> None:
        """Subscribe; the subject is answered once the server has heard of it."""
        # Looked up once: each of these walks the configurations of all routers.
        self._context = self._outer_config.context
        self._middlewares = tuple(self._broker_middlewares)[::-1]
        self._publish = self.connection.publish
        self._lean = _only_wraps_handlers(self._middlewares)
        await super().start()

    async def stop(self) -> None:
        """Take no more requests, and answer those under way within `DRAIN_SECONDS`."""
        if self.subscription is not None:
            try:
                async with asyncio.timeout(DRAIN_SECONDS):
                    await self.subscription.drain()  # type: ignore[no-untyped-call]
                    while self._answering:
                        await asyncio.wait(self._answering)
            except (nats.errors.Error, TimeoutError) as error:
                metrics.FAILURES.labels("drain", type(error).__name__).inc()
                log.warning(
                    "stopped before every request was answered",
                    subject=self.endpoint.subject,
                    left=len(self._answering),
                )
            self.subscription = None
        await super().stop()

    async def process_message(self, msg: Msg) -> Response:
        """Parse, decode, run the handler within its middlewares, reply."""
        (item,) = self.calls
        if not self._lean or item.handler.is_test:
            return await super().process_message(msg)
        context = self._context
        call: Any = item.handler.call_wrapped
        for middleware in self._middlewares:
            call = partial(middleware(msg, context=context).consume_scope, call)
        message = await _parse_request(msg)
        message.set_decoder(self._decoder)
        response = ensure_response(await call(message))
        if msg.reply:
            try:
                await self._reply(msg.reply, response)
            except nats.errors.MaxPayloadError:
                await self._reply(msg.reply, self._too_large())
        return response

    async def _reply(self, inbox: str, response: Response) -> None:
        body = response.body
        payload = body if isinstance(body, bytes) else msgspec.json.encode(body)
        await self._publish(inbox, payload, headers=response.headers or None)

    def _too_large(self) -> ErrorReply:
        # Without an answer the caller would wait for its whole deadline, and ask again in vain.
        metrics.FAILURES.labels("reply", TooLarge.code).inc()
        log.warning("reply larger than NATS takes", subject=self.endpoint.subject)
        return ErrorReply(TooLarge.code, "the answer is larger than NATS takes; ask for less")

    def get_log_context(self, _message: StreamMessage[Msg] | None) -> dict[str, str]:
        """Nothing: FastStream's access log is not used, and this is asked for every message."""
        return {}

    async def _create_subscription(self) -> None:
        if self.subscription is None:
            self.subscription = await self.connection.subscribe(
                self.endpoint.subject,
                queue=self.queue,
                cb=self._begin,
                pending_bytes_limit=pending_bytes(self.connection),
            )

    async def _begin(self, msg: Msg) -> None:
        if not has_requester(msg):
            metrics.FAILURES.labels("request", "no_requester").inc()
            log.warning(
                "request refused: nobody waits for its answer",
                subject=self.endpoint.subject,
                reply=msg.reply,
            )
            return
        # nats-py awaits one callback at a time; a task each keeps a slow answer from the others'.
        await self._slots.acquire()
        size = len(msg.data)
        while self._bytes and self._bytes + size > MAX_CONCURRENT_BYTES:
            self._room.clear()
            await self._room.wait()
        self._bytes += size
        task = asyncio.create_task(self._answer(msg))
        self._answering.add(task)
        task.add_done_callback(partial(self._end, size))

    def _end(self, size: int, task: asyncio.Task[Any]) -> None:
        self._answering.discard(task)
        self._bytes -= size
        self._room.set()
        self._slots.release()

    async def _answer(self, msg: Msg) -> None:
        try:
            await self.process_message(msg)
        except (nats.errors.Error, OSError) as error:
            # The handler is done; its caller hears nothing, and asks again.
            metrics.FAILURES.labels("reply", type(error).__name__).inc()
            log.warning("reply not sent", subject=self.endpoint.subject, reason=str(error))

    def _build_fastdepends_model(self) -> None:
        super()._build_fastdepends_model()
        _call_directly(self.calls, partial(_within, self._patience))


class BatchSubscriber(BatchPullStreamSubscriber):
    """Consumes a stream in batches; a handler acknowledges message by message."""

    def __init__(
        self,
        stream: str,
        consumer: ConsumerConfig,
        broker_config: NatsBrokerConfig,
        *,
        batch: int,
        workers: int,
        starts_by_itself: bool,
        on_nak: OnNak | None,
    ) -> None:
        """See `ServiceRouter.batches`."""
        subject = consumer.filter_subject or ""
        config, specification, calls = _parts(subject, "", broker_config)
        super().__init__(
            config,
            specification,
            calls,
            stream=JStream(stream, declare=False),
            pull_sub=cast("Any", PullSub(batch_size=batch, batch=True)),
        )
        self._decoder = _undecoded
        self.consumer = consumer
        self.batch = batch
        """Most messages handed over at a time; can be set until the subscriber starts."""
        self._workers = workers if starts_by_itself else 0
        self._turns = Turns()
        self._on_nak = on_nak

    async def run(
        self,
        consumer: ConsumerConfig | None = None,
        *,
        heartbeat: float = HEARTBEAT_SECONDS,
        position: Position | None = None,
    ) -> None:
        """Consume until cancelled, and hold what the handler has not acknowledged until then.

        For handlers that keep messages after they return, and for consumers that are made while
        the service runs.

        Args:
            consumer: instead of the declared one.
            heartbeat: seconds between two heartbeats for each message in hand.
            position: where it begins when it is made again; None as declared.
        """
        connection, in_hand = self._connection(), self._in_hand(heartbeat)
        beating = asyncio.create_task(in_hand.keep_alive())
        source = Consumer(
            connection,
            self.stream.name,
            consumer or self.consumer,
            batch=self.batch,
            position=position,
        )
        try:
            async for messages in source.batches():
                in_hand.take(messages)
                await self._process(messages)
        finally:
            beating.cancel()
            self._noted(await in_hand.nak_all(NAK_SECONDS))

    async def stop(self) -> None:
        """Give back what is in hand."""
        self.running = False
        tasks, self.tasks = self.tasks, []
        await cancel_all(*tasks)
        await super().stop()

    async def _create_subscription(self) -> None:
        for _ in range(self._workers):
            self.add_task(self._consume_pull)

    async def _consume_pull(self) -> None:
        source = Consumer(self._connection(), self.stream.name, self.consumer, batch=self.batch)
        async with aclosing(source.batches()) as batches:
            while True:
                async with self._turns.one() as turn:
                    messages = await anext(batches, None)
                    if messages is None:
                        return
                    if self._is_backlog(messages):
                        turn.end()
                    else:
                        turn.end_within(PATIENCE_SECONDS)
                    await self.hand_over(messages)

    def _is_backlog(self, messages: list[Msg]) -> bool:
        """Whether so much was there that more of it waits, or soon will."""
        size = sum(len(message.data) for message in messages)
        return len(messages) > self.batch // 2 or size > BATCH_BYTES // 2

    async def hand_over(self, messages: list[Msg], *, attempts: int = 1) -> None:
        """Process a batch, and give back what is not acknowledged.

        Args:
            messages: in their order.
            attempts: how often a message at fault is tried before those behind it go on.
        """
        in_hand = self._in_hand(HEARTBEAT_SECONDS)
        in_hand.take(messages)
        beating = asyncio.create_task(in_hand.keep_alive())
        try:
            await self._process(messages, attempts)
        finally:
            beating.cancel()
            self._noted(await in_hand.nak_all(NAK_SECONDS))

    async def _process(self, messages: list[Msg], attempts: int = 1) -> None:
        try:
            await self.process_message(messages)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not stop the stream
            # An unforeseen failure: find the message at fault, so that it cannot stop the others.
            kind = type(error).__name__
            metrics.FAILURES.labels("batch", kind).inc()
            log.warning(
                "batch failed, processing its messages one by one",
                messages=len(messages),
                reason=kind,
            )
            for message in messages:
                if not message.is_acked:
                    await self._process_one(message, attempts)

    async def _process_one(self, message: Msg, attempts: int) -> None:
        for left in reversed(range(attempts)):
            try:
                await self.process_message([message])
            except Exception as error:  # noqa: BLE001 - whatever it is, it must not stop the stream
                kind, sequence = type(error).__name__, message.metadata.sequence.stream
                metrics.FAILURES.labels("message", kind).inc()
                log.warning("message failed, it is tried again later", seq=sequence, reason=kind)
            else:
                return
            if left:
                await asyncio.sleep(ATTEMPT_SECONDS)
        if not message.is_acked:
            await message.nak(RETRY_SECONDS)

    def _in_hand(self, heartbeat: float) -> MessagesInHand:
        return MessagesInHand(self._connection(), _handled, interval=heartbeat)

    def _noted(self, given_back: int) -> None:
        if given_back:
            log.info("messages given back", stream=self.stream.name, messages=given_back)
            if self._on_nak is not None:
                self._on_nak(given_back)

    def _connection(self) -> Connection:
        return cast("Connection", self._outer_config.extra_context["broker"].link)

    def _build_fastdepends_model(self) -> None:
        super()._build_fastdepends_model()
        _call_directly(self.calls)


def _parts(
    subject: str, queue: str, broker_config: NatsBrokerConfig
) -> tuple[NatsSubscriberConfig, NatsSubscriberSpecification, CallsCollection[Any]]:
    """What FastStream's own factory gives a subscriber."""
    calls: CallsCollection[Any] = CallsCollection()
    config = NatsSubscriberConfig(
        subject=subject,
        sub_config=ConsumerConfig(),
        _outer_config=broker_config,
        _ack_policy=AckPolicy.MANUAL,
    )
    specification = NatsSubscriberSpecification(
        _outer_config=broker_config,
        calls=calls,
        specification_config=NatsSubscriberSpecificationConfig(
            subject=subject,
            queue=queue or None,
            title_=None,
            description_=None,
            include_in_schema=True,
        ),
    )
    return config, specification, calls


def _only_wraps_handlers(middlewares: Any) -> bool:
    kinds = [getattr(middleware, "func", middleware) for middleware in middlewares]
    return all(isinstance(kind, type) and issubclass(kind, ScopeMiddleware) for kind in kinds)


def _call_directly(
    calls: CallsCollection[Any],
    around: Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]] | None = None,
) -> None:
    """Call handlers that take nothing but their message without FastDepends.

    The decoder has made the message what the handler's annotation says, and its other parameters
    were injected when it was bound. A handler that takes more, `Context` or `Depends`, goes
    through FastDepends as everywhere in FastStream.
    """
    for item in calls:
        handler = item.handler
        parameters = inspect.signature(handler._composed_call).parameters  # noqa: SLF001
        if len(parameters) > 1:
            continue
        handler._wrapped_call = _direct(  # noqa: SLF001
            handler._composed_call,  # noqa: SLF001
            takes_message=bool(parameters),
            around=around,
        )


def _direct(
    call: Callable[..., Any],
    *,
    takes_message: bool,
    around: Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]] | None,
) -> Callable[[StreamMessage[Any]], Awaitable[Any]]:
    async def decoded(message: StreamMessage[Any]) -> Any:
        if not takes_message:
            return await call()
        return await call(await message.decode())

    if around is None:
        return decoded

    async def wrapped(message: StreamMessage[Any]) -> Any:
        return await around(partial(decoded, message))

    return wrapped


async def _within(seconds: float, call: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(seconds):
        return await call()


async def _parse_request(message: Msg) -> NatsMessage:
    # A request needs no acknowledgement.
    message._ackd = True  # noqa: SLF001
    return NatsMessage(
        raw_message=message,
        body=message.data,
        reply_to=message.reply,
        headers=message.headers or {},
        content_type="application/json",
        # FastStream makes uuids where there are none; nothing here reads them.
        correlation_id=_NO_ID,
        message_id=_NO_ID,
    )


def decoder_of(kind: type[Any]) -> Callable[[StreamMessage[Any]], Awaitable[Any]]:
    """Make what decodes a message's body; it raises `InvalidRequest` for what is no `kind`."""
    decode = msgspec.json.Decoder(kind).decode

    async def decode_body(message: StreamMessage[Any]) -> Any:
        try:
            return decode(replace_lone_surrogates(message.body) or b"{}")
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidRequest(str(error)) from error

    return decode_body


async def _undecoded(message: StreamMessage[list[Msg]]) -> list[Msg]:
    """Give the raw messages: a batch is decoded one by one, where a poison message is set aside."""
    return message.raw_message


def _handled(what: str, error: Exception) -> None:
    metrics.FAILURES.labels(what, type(error).__name__).inc()
    log.warning("JetStream did not hear about messages in hand", what=what, reason=str(error))

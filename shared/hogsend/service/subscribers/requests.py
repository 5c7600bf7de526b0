"""Answers requests: one endpoint, many at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import nats.errors
import structlog
from faststream.message import StreamMessage
from faststream.nats.message import NatsMessage
from faststream.nats.subscriber.usecases import CoreSubscriber
from faststream.response import Response, ensure_response
from nats.aio.msg import Msg

from hogsend.contract.errors import TooLarge
from hogsend.contract.health import ServiceHealth
from hogsend.contract.registry import Endpoint
from hogsend.service import metrics
from hogsend.service.middlewares import ErrorReply
from hogsend.service.requester import has_requester
from hogsend.transport.connection import pending_bytes

if TYPE_CHECKING:
    from faststream.nats.configs import NatsBrokerConfig
from hogsend.service.request_memory import RequestMemory
from hogsend.service.subscribers.decoding import decoder_of
from hogsend.service.subscribers.internals import (
    call_directly,
    only_wraps_handlers,
    subscriber_parts,
)

log = structlog.get_logger(__name__)

ANSWER_SECONDS = 10.0
"""Longest a handler may take, in seconds, unless its endpoint's deadline is longer."""
MAX_CONCURRENT = 64
"""Requests one endpoint of a process answers at a time; more wait in NATS' client."""
DRAIN_SECONDS = 8.0
"""How long requests under way may take once a service was told to stop: it ends within ten."""
HEALTH_SECONDS = DRAIN_SECONDS - 1
"""For so long health is still told of a service that stops, while it answers other requests."""

_NO_ID = "-"


class RequestSubscriber(CoreSubscriber):
    """Answers the requests of one endpoint."""

    def __init__(self, endpoint: Endpoint[Any, Any], broker_config: NatsBrokerConfig) -> None:
        """Answer `endpoint` in its service's queue group."""
        config, specification, calls = subscriber_parts(
            endpoint.subject, endpoint.service, broker_config
        )
        super().__init__(config, specification, calls, queue=endpoint.service)
        self._parser, self._decoder = _parse_request, decoder_of(endpoint.request)
        self.endpoint = endpoint
        self._patience = max(ANSWER_SECONDS, endpoint.deadline)
        self._slots = asyncio.Semaphore(MAX_CONCURRENT)
        self._memory: RequestMemory
        self._answering: set[asyncio.Task[Any]] = set()
        self._all: set[asyncio.Task[Any]]
        self._lean = False

    async def start(self) -> None:
        """Subscribe; the subject is answered once the server has heard of it."""
        # Looked up once: each of these walks the configurations of all routers.
        self._context = self._outer_config.context
        self._middlewares = tuple(self._broker_middlewares)[::-1]
        self._publish = self.connection.publish
        self._lean = only_wraps_handlers(self._middlewares)
        broker = self._outer_config.extra_context["broker"]
        self._memory, self._all = broker.request_memory, broker.requests
        await super().start()

    async def stop(self) -> None:
        """Take no more requests, and answer those under way within `DRAIN_SECONDS`."""
        if self.subscription is not None:
            try:
                async with asyncio.timeout(DRAIN_SECONDS):
                    if self.endpoint.reply is ServiceHealth:
                        await self._others()
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

    async def _others(self) -> None:
        """Wait until other endpoints have answered: their callers look whether this one does."""
        with suppress(TimeoutError):
            async with asyncio.timeout(HEALTH_SECONDS):
                while others := self._all - self._answering:
                    await asyncio.wait(others)

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
                "request refused: it has no inbox for its answer",
                subject=self.endpoint.subject,
                reply=msg.reply,
            )
            return
        # nats-py awaits one callback at a time; a task each keeps a slow answer from the others'.
        await self._slots.acquire()
        try:
            size = await self._memory.admit(msg.data)
        except TooLarge as error:
            self._slots.release()
            metrics.FAILURES.labels("request", error.code).inc()
            log.warning("request refused", subject=self.endpoint.subject, reason=str(error))
            await self._answer(msg, ErrorReply(error.code, str(error)))
            return
        task = asyncio.create_task(self._answer(msg))
        self._answering.add(task)
        self._all.add(task)
        task.add_done_callback(partial(self._end, size))

    def _end(self, size: int, task: asyncio.Task[Any]) -> None:
        self._answering.discard(task)
        self._all.discard(task)
        self._memory.free(size)
        self._slots.release()

    async def _answer(self, msg: Msg, refusal: ErrorReply | None = None) -> None:
        try:
            if refusal is None:
                await self.process_message(msg)
            else:
                await self._reply(msg.reply, refusal)
        except (nats.errors.Error, OSError) as error:
            # The handler is done; its caller hears nothing, and asks again.
            metrics.FAILURES.labels("reply", type(error).__name__).inc()
            log.warning(
                "a reply could not be sent", subject=self.endpoint.subject, reason=str(error)
            )

    def _build_fastdepends_model(self) -> None:
        super()._build_fastdepends_model()
        call_directly(self.calls, partial(_within, self._patience))


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

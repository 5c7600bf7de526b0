"""A FastStream subscriber that handles the requests of one endpoint concurrently."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
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
from hogsend.contract.headers import REQUEST_ID
from hogsend.contract.registry import Endpoint
from hogsend.service import metrics
from hogsend.service.middlewares import ErrorReply
from hogsend.service.request_memory import RequestMemory
from hogsend.service.requester import has_requester
from hogsend.service.subscribers.decoding import decoder_of
from hogsend.service.subscribers.internals import (
    call_directly,
    only_wraps_handlers,
    subscriber_parts,
)
from hogsend.transport.pending_bytes import pending_bytes_limit

if TYPE_CHECKING:
    from faststream.nats.configs import NatsBrokerConfig


log = structlog.get_logger(__name__)

HANDLER_SECONDS = 10.0
"""Timeout of a handler, unless its endpoint's deadline is longer."""
MAX_CONCURRENT = 64
"""Requests that one endpoint of a process handles at a time; more wait in nats-py."""
DRAIN_SECONDS = 8.0
"""How long a stopping service waits for the requests in progress: it must exit within 10 s."""

_NO_ID = "-"


class RequestSubscriber(CoreSubscriber):
    """Answers the requests of one endpoint."""

    def __init__(self, endpoint: Endpoint[Any, Any], broker_config: NatsBrokerConfig) -> None:
        """Handle the requests of `endpoint`, shared with its service's queue group."""
        config, specification, calls = subscriber_parts(
            endpoint.subject, endpoint.service, broker_config
        )
        super().__init__(config, specification, calls, queue=endpoint.service)
        self._parser, self._decoder = _parse_request, decoder_of(endpoint.request)
        self.endpoint = endpoint
        self._timeout = max(HANDLER_SECONDS, endpoint.deadline)
        self._slots = asyncio.Semaphore(MAX_CONCURRENT)
        self._memory: RequestMemory
        self._in_progress: dict[asyncio.Task[Any], Msg] = {}
        self._admitting: list[Msg] = []
        """The request that waits for a slot or for memory, if any."""
        self._all_in_progress: set[asyncio.Task[Any]]
        self._bypasses_faststream = False

    async def start(self) -> None:
        """Subscribe; requests arrive once the server has processed the subscription."""
        # Cached: each of these properties walks the configurations of all routers.
        self._context = self._outer_config.context
        self._middlewares = tuple(self._broker_middlewares)[::-1]
        self._publish = self.connection.publish
        self._bypasses_faststream = only_wraps_handlers(self._middlewares)
        broker = self._outer_config.extra_context["broker"]
        self._memory, self._all_in_progress = broker.request_memory, broker.requests
        await super().start()

    async def stop(self) -> None:
        """Unsubscribe, and wait up to `DRAIN_SECONDS` for the requests in progress."""
        if self.subscription is not None:
            drain = asyncio.create_task(self._drain())
            # Until its end, requests may arrive that are in progress nowhere yet.
            self._all_in_progress.add(drain)
            drain.add_done_callback(self._all_in_progress.discard)
            try:
                async with asyncio.timeout(DRAIN_SECONDS):
                    await drain
            except (nats.errors.Error, TimeoutError) as error:
                metrics.FAILURES.labels("drain", type(error).__name__).inc()
                log.warning(
                    "stopped before every request was answered",
                    subject=self.endpoint.subject,
                    remaining=len(self._in_progress),
                )
            self.subscription = None
        await super().stop()

    async def _drain(self) -> None:
        await self.subscription.drain()  # type: ignore[union-attr]
        while self._in_progress:
            await asyncio.wait(self._in_progress)

    def unanswered(self) -> Iterator[str]:
        """Yield the `REQUEST_ID` of each request that was received, and has no reply yet."""
        waiting: Any = self.subscription and self.subscription._pending_queue  # noqa: SLF001
        queued = waiting._queue if waiting else ()  # noqa: SLF001
        for message in (*self._in_progress.values(), *self._admitting, *queued):
            if message.headers and (id := message.headers.get(REQUEST_ID)):
                yield id

    async def process_message(self, msg: Msg) -> Response:
        """Decode the request, call the handler inside its middlewares, and reply."""
        (item,) = self.calls
        if not self._bypasses_faststream or item.handler.is_test:
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
                await self._reply(msg.reply, self._reply_too_large())
        return response

    async def _reply(self, inbox: str, response: Response) -> None:
        body = response.body
        payload = body if isinstance(body, bytes) else msgspec.json.encode(body)
        await self._publish(inbox, payload, headers=response.headers or None)

    def _reply_too_large(self) -> ErrorReply:
        # Without a reply the caller would wait for its whole deadline, and retry in vain.
        metrics.FAILURES.labels("reply", TooLarge.code).inc()
        log.warning("reply larger than NATS' max_payload", subject=self.endpoint.subject)
        return ErrorReply(TooLarge.code, "the reply is larger than NATS' max_payload; request less")

    def get_log_context(self, _message: StreamMessage[Msg] | None) -> dict[str, str]:
        """Return nothing: FastStream's access log is off, but calls this for every message."""
        return {}

    async def _create_subscription(self) -> None:
        if self.subscription is None:
            self.subscription = await self.connection.subscribe(
                self.endpoint.subject,
                queue=self.queue,
                cb=self._receive,
                pending_bytes_limit=pending_bytes_limit(self.connection),
            )

    async def _receive(self, msg: Msg) -> None:
        if not has_requester(msg):
            metrics.FAILURES.labels("request", "no_requester").inc()
            log.warning(
                "request refused: it has no inbox for its reply",
                subject=self.endpoint.subject,
                reply=msg.reply,
            )
            return
        # nats-py awaits one callback at a time. With a task each, a slow request delays no other.
        self._admitting.append(msg)
        try:
            await self._slots.acquire()
            size = await self._memory.admit(msg.data)
        except TooLarge as error:
            self._slots.release()
            metrics.FAILURES.labels("request", error.code).inc()
            log.warning("request refused", subject=self.endpoint.subject, reason=str(error))
            await self._handle(msg, ErrorReply(error.code, str(error)))
            return
        finally:
            self._admitting.clear()
        task = asyncio.create_task(self._handle(msg))
        self._in_progress[task] = msg
        self._all_in_progress.add(task)
        task.add_done_callback(partial(self._finish, size))

    def _finish(self, size: int, task: asyncio.Task[Any]) -> None:
        self._in_progress.pop(task, None)
        self._all_in_progress.discard(task)
        self._memory.release(size)
        self._slots.release()

    async def _handle(self, msg: Msg, refusal: ErrorReply | None = None) -> None:
        try:
            if refusal is None:
                await self.process_message(msg)
            else:
                await self._reply(msg.reply, refusal)
        except (nats.errors.Error, OSError) as error:
            # The handler has finished. Its caller times out, and may retry.
            metrics.FAILURES.labels("reply", type(error).__name__).inc()
            log.warning(
                "a reply could not be sent", subject=self.endpoint.subject, reason=str(error)
            )

    def _build_fastdepends_model(self) -> None:
        super()._build_fastdepends_model()
        call_directly(self.calls, partial(_call_with_timeout, self._timeout))


async def _call_with_timeout(seconds: float, call: Callable[[], Awaitable[Any]]) -> Any:
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
        # FastStream would generate uuids for these; nothing here reads them.
        correlation_id=_NO_ID,
        message_id=_NO_ID,
    )

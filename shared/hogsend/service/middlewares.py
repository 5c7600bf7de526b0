"""Middlewares around every message that a service handles: traces, correlation, metrics, errors.

They use only the hook `consume_scope`, which wraps the handler. So `RequestSubscriber` can run them
without FastStream's stack of contexts.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from faststream import BaseMiddleware, ContextRepo
from faststream.message import SourceType, StreamMessage
from faststream.nats import NatsResponse
from nats.micro.request import ERROR_CODE_HEADER, ERROR_HEADER

from hogsend.contract.errors import HogsendError, Unavailable
from hogsend.contract.headers import CORRELATION_ID, propagated
from hogsend.contract.subjects import RPC
from hogsend.service import metrics
from hogsend.service.service_stats import ServiceStats
from hogsend.service.tracing import Tracing
from hogsend.transport.correlation import correlation_id

log = structlog.get_logger(__name__)

CallNext = Callable[[StreamMessage[Any]], Awaitable[Any]]

_REQUEST_PREFIX = f"{RPC}."


class ScopeMiddleware(BaseMiddleware[Any, Any]):
    """A middleware that uses no other hook than `consume_scope`."""


class TracingMiddleware(ScopeMiddleware):
    """Runs the handler in a span of the trace that the message belongs to."""

    def __init__(self, msg: Any, /, *, context: Any, tracing: Tracing) -> None:
        super().__init__(msg, context=context)
        self._tracing = tracing

    async def consume_scope(self, call_next: CallNext, msg: StreamMessage[Any]) -> Any:
        """Run the handler in a span; for a batch, in one span for each message."""
        if msg.source_type is SourceType.RESPONSE:
            return await call_next(msg)
        if isinstance(self.msg, list):
            with self._tracing.consumed(self.msg):
                return await call_next(msg)
        name = f"{self.msg.subject} process"
        with self._tracing.span(
            name, msg.headers, kind="SERVER" if self.msg.reply else "CONSUMER"
        ) as span:
            result = await call_next(msg)
            if isinstance(result, ErrorReply):
                span.set_attribute("error.type", result.code)
            return result


class CorrelationMiddleware(ScopeMiddleware):
    """Sets the correlation id of the message while its handler runs."""

    async def consume_scope(self, call_next: CallNext, msg: StreamMessage[Any]) -> Any:
        """Set the id for log lines, and for the requests and messages that the handler sends."""
        id = None if isinstance(self.msg, list) else propagated(msg.headers, CORRELATION_ID)
        if id is None:
            return await call_next(msg)
        token = correlation_id.set(id)
        try:
            return await call_next(msg)
        finally:
            correlation_id.reset(token)


class MeasuringMiddleware(ScopeMiddleware):
    """Counts and times requests, for Prometheus and for `$SRV.STATS`."""

    def __init__(self, msg: Any, /, *, context: ContextRepo, stats: ServiceStats) -> None:
        super().__init__(msg, context=context)
        self._stats = stats

    async def consume_scope(self, call_next: CallNext, msg: StreamMessage[Any]) -> Any:
        """Measure the handler's time, and count its result."""
        if not _is_request(self.msg) or msg.source_type is SourceType.RESPONSE:
            return await call_next(msg)
        started = time.perf_counter()
        result = await call_next(msg)
        elapsed = time.perf_counter() - started
        error = result if isinstance(result, ErrorReply) else None
        stats = self._stats.of(self.msg.subject)
        stats.record(elapsed, error.code if error else None, error.text if error else "")
        return result


class ErrorsMiddleware(ScopeMiddleware):
    """Replies to a request with the error that its handler raised (NATS ADR-32)."""

    async def consume_scope(self, call_next: CallNext, msg: StreamMessage[Any]) -> Any:
        """Return an error of a request as its reply; count, log and raise that of a message."""
        try:
            return await call_next(msg)
        except HogsendError as error:
            if _is_request(self.msg):
                return ErrorReply(error.code, str(error))
            if not isinstance(self.msg, list):
                # `BatchSubscriber` counts and logs the errors of its handlers.
                metrics.FAILURES.labels("message", error.code).inc()
                log.warning("message refused", subject=self.msg.subject, reason=str(error))
            raise
        except TimeoutError:
            if _is_request(self.msg):
                return ErrorReply(Unavailable.code, "the service took too long")
            raise
        except Exception as error:
            metrics.FAILURES.labels("handler", type(error).__name__).inc()
            log.exception("handler failed", subject=_subject_of(self.msg))
            if _is_request(self.msg):
                return ErrorReply(HogsendError.code, "internal error")
            raise


class ErrorReply(NatsResponse):
    """A reply with an error in its headers and an empty body."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(b"", headers={ERROR_CODE_HEADER: code, ERROR_HEADER: _one_line(text)})
        self.code = code
        self.text = text


def _is_request(raw: Any) -> bool:
    return not isinstance(raw, list) and raw.subject.startswith(_REQUEST_PREFIX)


def _subject_of(raw: Any) -> str:
    return str((raw[0] if isinstance(raw, list) else raw).subject)


def _one_line(text: str) -> str:
    return " ".join(text.splitlines())

"""Logs errors that occur after a response was started, and that therefore truncate it.

Litestar turns an error into a response only before the response is started. It raises a later error
to the server, which does not log it.
"""

from __future__ import annotations

import structlog
from litestar.enums import ScopeType
from litestar.exceptions import LitestarException
from litestar.types import ASGIApp, Receive, Scope, Send

from hogsend.contract.errors import HogsendError
from hogsend.service.metrics import FAILURES
from services.gateway.slow_readers import ReadTooSlowly

log = structlog.get_logger(__name__)


def with_truncated_responses_logged(app: ASGIApp) -> ASGIApp:
    """Wrap `app`, inside `with_correlation_id`, so that these errors are counted and logged."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except Exception as error:
            if scope["type"] == ScopeType.HTTP:
                _log(_origin_of(error), scope.get("path_template", ""))
            raise

    return wrapped


def _log(error: BaseException, route: str) -> None:
    if isinstance(error, ReadTooSlowly):
        # Already counted, and caused by the client.
        return
    FAILURES.labels("answer", type(error).__name__).inc()
    if isinstance(error, HogsendError):
        log.warning("a response was cut off", route=route, reason=str(error))
    else:
        log.error("a response was cut off", route=route, exc_info=error)


def _origin_of(error: BaseException) -> BaseException:
    """Return the original error, without the wrappers of Litestar and its task group."""
    while True:
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        elif isinstance(error, LitestarException) and error.__cause__ is not None:
            error = error.__cause__
        else:
            return error

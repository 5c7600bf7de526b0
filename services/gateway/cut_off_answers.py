"""Answers that end in the middle: what fails once one has begun is only to be seen in the log.

Litestar makes an answer of every error before that, and hands later ones to the server, which says
nothing of them.
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


def with_cut_off_answers_logged(app: ASGIApp) -> ASGIApp:
    """Wrap `app`, inside `with_correlation_id`: what ends an answer is counted and logged."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except Exception as error:
            if scope["type"] == ScopeType.HTTP:
                _say(_origin_of(error), scope.get("path_template", ""))
            raise

    return wrapped


def _say(error: BaseException, route: str) -> None:
    if isinstance(error, ReadTooSlowly):
        # Counted already, and the client's own doing.
        return
    FAILURES.labels("answer", type(error).__name__).inc()
    if isinstance(error, HogsendError):
        log.warning("an answer was cut off", route=route, reason=str(error))
    else:
        log.error("an answer was cut off", route=route, exc_info=error)


def _origin_of(error: BaseException) -> BaseException:
    """Give what was raised first, before Litestar and its task group put it into others."""
    while True:
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        elif isinstance(error, LitestarException) and error.__cause__ is not None:
            error = error.__cause__
        else:
            return error

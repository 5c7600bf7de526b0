"""Shortens what asyncpg's pool logs while PostgreSQL cannot be reached: no tracebacks."""

from __future__ import annotations

import logging

import asyncpg

from hogsend.service.metrics import FAILURES

_CONNECTION_ERRORS = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)


def shorten_connection_errors() -> None:
    """Have asyncpg's pool log one line with the reason for each failed attempt to connect.

    The pool connects in its own background task and repeats it while PostgreSQL is unreachable. A
    traceback of each attempt is useless: the statements that fail meanwhile are logged where they
    are run. Other errors are defects and keep their traceback. May be called more than once.
    """
    logging.getLogger("asyncpg.pool").addFilter(_shorten)


def _shorten(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, _CONNECTION_ERRORS):
        FAILURES.labels("database_pool", type(error).__name__).inc()
        reason = str(error) or type(error).__name__
        record.msg, record.args, record.exc_info = f"{record.getMessage()}: {reason}", (), None
    return True

"""What asyncpg's pool logs while PostgreSQL cannot be reached: the cause, without a traceback."""

from __future__ import annotations

import logging

import asyncpg

from hogsend.service.metrics import FAILURES

_AWAY = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)


def log_causes() -> None:
    """Have the pool's log say why it cannot connect; errors of another kind keep their traceback.

    The pool connects in a task of its own, again and again. Which statements fail meanwhile, and
    what becomes of them, is said where they are made.
    """
    logging.getLogger("asyncpg.pool").addFilter(_cause)


def _cause(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, _AWAY):
        FAILURES.labels("database_pool", type(error).__name__).inc()
        said = str(error) or type(error).__name__
        record.msg, record.args, record.exc_info = f"{record.getMessage()}: {said}", (), None
    return True

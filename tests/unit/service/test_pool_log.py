"""What asyncpg's pool logs when it cannot connect."""

from __future__ import annotations

import logging

import asyncpg
import pytest

from hogsend.service.pool_log import shorten_connection_errors


@pytest.mark.parametrize(
    ("error", "reason", "has_traceback"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused", False),
        (asyncpg.CannotConnectNowError("the database is starting up"), "is starting up", False),
        (TimeoutError(), "TimeoutError", False),
        # Not a connection error but a defect.
        (TypeError("no attribute"), "retrying", True),
    ],
)
def test_a_connection_error_is_one_line_and_a_defect_keeps_its_traceback(
    error: Exception, reason: str, has_traceback: bool, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        shorten_connection_errors()
    logging.getLogger("asyncpg.pool").warning("Failed; %s", "retrying", exc_info=error)
    [record] = caplog.records
    assert record.getMessage().startswith("Failed; retrying")
    # Once, although the filter was added twice.
    assert record.getMessage().count(reason) == 1
    assert bool(record.exc_info) is has_traceback

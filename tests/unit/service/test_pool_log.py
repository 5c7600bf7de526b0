"""What is logged of a pool that cannot connect."""

from __future__ import annotations

import logging

import asyncpg
import pytest

from hogsend.service.pool_log import log_causes


@pytest.mark.parametrize(
    ("error", "said", "has_traceback"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused", False),
        (asyncpg.CannotConnectNowError("the database is starting up"), "is starting up", False),
        (TimeoutError(), "TimeoutError", False),
        # A defect.
        (TypeError("no attribute"), "retrying", True),
    ],
)
def test_a_server_that_is_away_is_a_cause_and_a_defect_a_traceback(
    error: Exception, said: str, has_traceback: bool, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        log_causes()
    logging.getLogger("asyncpg.pool").warning("Failed; %s", "retrying", exc_info=error)
    [record] = caplog.records
    assert record.getMessage().startswith("Failed; retrying")
    assert said in record.getMessage()
    assert record.getMessage().count(said) == 1
    assert bool(record.exc_info) is has_traceback

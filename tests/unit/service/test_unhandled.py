"""Unhandled errors are counted and logged, without the data that was being processed."""

from __future__ import annotations

import asyncio
import gc
import operator
import socket

from structlog.testing import capture_logs

from hogsend.service import metrics, unhandled
from tests.waiting import eventually


def counted(kind: str) -> float:
    return metrics.FAILURES.labels("unhandled", kind)._value.get()


async def fails_with(_token: str) -> None:
    raise ZeroDivisionError


async def test_an_error_of_a_task_that_is_not_awaited_is_counted_and_logged() -> None:
    before = counted("ZeroDivisionError")
    with unhandled.reporting(), capture_logs() as logs:
        task = asyncio.create_task(fails_with("pha_token"))
        await asyncio.wait({task})
        del task
        gc.collect()
        await eventually(lambda: logs)
    assert counted("ZeroDivisionError") == before + 1
    assert isinstance(logs[0].pop("exc_info"), ZeroDivisionError)
    assert logs == [
        {
            "event": "Task exception was never retrieved",
            "log_level": "error",
            "work": "fails_with",
        }
    ]


async def look_up() -> None:
    raise socket.gaierror(-3, "Temporary failure in name resolution")


async def test_a_dns_query_that_fails_after_its_connection_attempt_is_not_an_error() -> None:
    """As with uvloop when connecting to a stopped container times out."""
    before, handled = counted("gaierror"), metrics.FAILURES.labels("name_lookup", "gaierror")
    handled_before = handled._value.get()
    with unhandled.reporting(), capture_logs() as logs:
        query = asyncio.get_running_loop().create_future()
        query.set_exception(socket.gaierror(-3, "Temporary failure in name resolution"))
        del query
        gc.collect()
        await eventually(lambda: logs)
        assert {line["log_level"] for line in logs} == {"debug"}
        assert (counted("gaierror"), handled._value.get()) == (before, handled_before + 1)
        # A failed DNS query in a task of the service's own code is an error.
        task = asyncio.create_task(look_up())
        await asyncio.wait({task})
        del task
        gc.collect()
        await eventually(lambda: counted("gaierror") == before + 1)


async def test_an_error_of_a_callback_is_logged_without_its_arguments() -> None:
    before = counted("TypeError")
    with unhandled.reporting(), capture_logs() as logs:
        asyncio.get_running_loop().call_soon(operator.sub, "pha_token", "pha_token")
        await eventually(lambda: logs)
    assert counted("TypeError") == before + 1
    assert "pha_token" not in repr(logs)


async def test_the_previous_handler_is_restored_afterwards() -> None:
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    with unhandled.reporting():
        assert loop.get_exception_handler() is not before
    assert loop.get_exception_handler() is before

"""Errors that nothing handled are counted and logged, without what was at work on."""

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


async def test_an_error_of_a_task_that_nobody_waits_for_is_counted_and_logged() -> None:
    before = counted("ZeroDivisionError")
    with unhandled.counted(), capture_logs() as logs:
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


async def test_a_look_up_that_no_connection_waits_for_any_more_is_not_an_error() -> None:
    """As uvloop leaves it behind where connecting to a stopped container takes too long."""
    before, handled = counted("gaierror"), metrics.FAILURES.labels("name_lookup", "gaierror")
    handled_before = handled._value.get()
    with unhandled.counted(), capture_logs() as logs:
        found = asyncio.get_running_loop().create_future()
        found.set_exception(socket.gaierror(-3, "Temporary failure in name resolution"))
        del found
        gc.collect()
        await eventually(lambda: logs)
        assert {line["log_level"] for line in logs} == {"debug"}
        assert (counted("gaierror"), handled._value.get()) == (before, handled_before + 1)
        # A task of ours that looks a name up is another matter.
        task = asyncio.create_task(look_up())
        await asyncio.wait({task})
        del task
        gc.collect()
        await eventually(lambda: counted("gaierror") == before + 1)


async def test_an_error_of_a_callback_is_told_without_its_arguments() -> None:
    before = counted("TypeError")
    with unhandled.counted(), capture_logs() as logs:
        asyncio.get_running_loop().call_soon(operator.sub, "pha_token", "pha_token")
        await eventually(lambda: logs)
    assert counted("TypeError") == before + 1
    assert "pha_token" not in repr(logs)


async def test_afterwards_the_loop_handles_errors_as_before() -> None:
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    with unhandled.counted():
        assert loop.get_exception_handler() is not before
    assert loop.get_exception_handler() is before

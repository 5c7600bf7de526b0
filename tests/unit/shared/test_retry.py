"""Retries: an operation is repeated until its dependency is available, with logs and metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import stamina
import structlog
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from hogsend.contract.errors import InvalidRequest, Unavailable
from hogsend.service import retry
from hogsend.service.retry import (
    repeat_every,
    retry_after_conflict,
    retry_until_available,
    waiting_for,
)


@pytest.fixture(autouse=True)
def without_pauses() -> Iterator[None]:
    with stamina.set_testing(True, attempts=1000):
        yield


class Dependency:
    """Raises each of `errors` in turn, then returns a result."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)
        self.reasons: list[str | None] = []
        """What `waiting_for` returned at each call."""

    async def call(self) -> str:
        self.reasons.append(waiting_for())
        if self._errors:
            raise self._errors.pop(0)
        return "result"

    async def store(self, row: str) -> str:
        await self.call()
        return f"{row} stored"


def retries(error: str) -> float:
    labels = {"operation": f"{__name__}.Dependency.call", "error": error}
    return REGISTRY.get_sample_value("hogsend_retries_total", labels) or 0.0


async def test_a_retried_operation_returns_its_result_and_the_number_of_attempts() -> None:
    assert await retry_until_available(Dependency().call) == ("result", 1)
    outcome = await retry_until_available(Dependency(*[Unavailable("down")] * 20).call)
    assert (outcome.result, outcome.attempts) == ("result", 21)


async def test_a_permanent_error_is_raised_without_a_retry() -> None:
    dependency = Dependency(InvalidRequest("never"))
    with pytest.raises(InvalidRequest, match="never"):
        await retry_until_available(dependency.call)
    assert len(dependency.reasons) == 1
    assert waiting_for() is None


async def test_the_caller_chooses_the_errors_that_are_retried() -> None:
    dependency = Dependency(OSError("connection refused"))
    assert (await retry_until_available(dependency.call, on=(OSError,))).attempts == 2
    with pytest.raises(Unavailable):
        await retry_until_available(Dependency(Unavailable("down")).call, on=(OSError,))


async def test_waiting_for_returns_the_last_error_until_the_operation_succeeds() -> None:
    dependency = Dependency(Unavailable("NATS is not connected"), Unavailable("no stream"))
    await retry_until_available(dependency.call)
    assert dependency.reasons == [None, "NATS is not connected", "no stream"]
    assert waiting_for() is None


async def test_a_cancelled_operation_no_longer_waits_for_a_dependency() -> None:
    failed = asyncio.Event()

    async def fail() -> None:
        failed.set()
        raise Unavailable("down")

    with stamina.set_testing(False):
        pending = asyncio.create_task(retry_until_available(fail))
        await failed.wait()
        assert waiting_for() == "down"
        pending.cancel()
        await asyncio.wait({pending})
    assert waiting_for() is None


async def test_a_periodic_action_is_retried_and_repeated_until_it_is_cancelled() -> None:
    done = asyncio.Event()
    dependency = Dependency(Unavailable("down"))

    async def twice() -> None:
        await dependency.call()
        if len(dependency.reasons) == 3:
            done.set()

    repeating = asyncio.create_task(repeat_every(0, twice))
    await done.wait()
    repeating.cancel()
    await asyncio.wait({repeating})
    assert dependency.reasons == [None, "down", None]


async def test_the_first_failure_is_logged_as_a_warning_and_each_failure_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # An earlier test in this process may have configured logging, which the logger keeps.
    every_level = structlog.make_filtering_bound_logger("debug")
    monkeypatch.setattr(retry, "log", structlog.wrap_logger(None, wrapper_class=every_level))
    before = retries("Unavailable")
    with capture_logs() as logs:
        await retry_until_available(Dependency(*[Unavailable("NATS is down")] * 3).call)
    assert [entry["log_level"] for entry in logs] == ["warning", "debug", "debug"]
    assert logs[0]["reason"] == "NATS is down"
    assert retries("Unavailable") == before + 3


async def test_the_cause_of_an_error_is_logged_by_its_class_without_its_text() -> None:
    error = Unavailable("PostgreSQL is not available")
    error.__cause__ = OSError("password=hunter2")
    with capture_logs() as logs:
        await retry_until_available(Dependency(error).call)
    assert logs[0]["cause"] == "OSError"
    assert "hunter2" not in str(logs)


async def test_an_error_of_another_library_is_logged_by_its_class_without_its_text() -> None:
    dependency = Dependency(OSError("password=hunter2"))
    with capture_logs() as logs:
        await retry_until_available(dependency.call, on=(OSError,))
    assert dependency.reasons[1] == "OSError"
    assert "hunter2" not in str(logs)


class Deadlock(Exception):
    """What a database raises when another transaction locks the same rows."""


async def change(dependency: Dependency, attempts: int | None = None) -> str:
    return await retry_after_conflict(
        lambda: dependency.store("row"),
        is_conflict=lambda error: isinstance(error, Deadlock),
        attempts=attempts,
        wait_max=0.1,
        wait_jitter=0.0,
    )


def conflicts() -> float:
    labels = {"operation": f"{__name__}.change", "error": "Deadlock"}
    return REGISTRY.get_sample_value("hogsend_retries_total", labels) or 0.0


async def test_a_conflict_is_retried_and_counted_but_is_no_outage() -> None:
    dependency, before = Dependency(Deadlock(), Deadlock()), conflicts()
    with capture_logs() as logs:
        assert await change(dependency) == "row stored"
    assert dependency.reasons == [None, None, None]
    assert conflicts() - before == 2
    assert {(entry["event"], entry["log_level"], entry["reason"]) for entry in logs} == {
        ("retrying after a conflict", "debug", "Deadlock")
    }


async def test_the_last_conflict_is_raised_after_the_last_attempt() -> None:
    last = Deadlock("last")
    dependency = Dependency(Deadlock("first"), last, Deadlock("never"))
    with (
        stamina.set_testing(True, attempts=2, cap=True),
        pytest.raises(Deadlock, match="last") as raised,
    ):
        await change(dependency, attempts=2)
    assert raised.value is last


async def test_an_error_that_is_no_conflict_is_raised_at_once() -> None:
    dependency = Dependency(InvalidRequest("never"))
    with pytest.raises(InvalidRequest, match="never"):
        await change(dependency)
    assert len(dependency.reasons) == 1

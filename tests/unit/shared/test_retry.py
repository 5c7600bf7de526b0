"""An operation is retried until its dependency is available, and that is visible meanwhile."""

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
from hogsend.service.retry import repeat_every, retry_until_available, waiting_for


@pytest.fixture(autouse=True)
def without_pauses() -> Iterator[None]:
    with stamina.set_testing(True, attempts=1000):
        yield


class Dependency:
    """Fails with each of `errors` in turn, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)
        self.seen: list[str | None] = []

    async def ask(self) -> str:
        self.seen.append(waiting_for())
        if self._errors:
            raise self._errors.pop(0)
        return "answer"


def retries(error: str) -> float:
    labels = {"operation": f"{__name__}.Dependency.ask", "error": error}
    return REGISTRY.get_sample_value("hogsend_retries_total", labels) or 0.0


async def test_the_result_comes_with_the_number_of_attempts() -> None:
    assert await retry_until_available(Dependency().ask) == ("answer", 1)
    outcome = await retry_until_available(Dependency(*[Unavailable("away")] * 20).ask)
    assert (outcome.result, outcome.attempts) == ("answer", 21)


async def test_an_error_that_no_retry_can_mend_is_raised_at_once() -> None:
    dependency = Dependency(InvalidRequest("never"))
    with pytest.raises(InvalidRequest, match="never"):
        await retry_until_available(dependency.ask)
    assert len(dependency.seen) == 1
    assert waiting_for() is None


async def test_the_caller_says_which_errors_pass() -> None:
    dependency = Dependency(OSError("connection refused"))
    assert (await retry_until_available(dependency.ask, on=(OSError,))).attempts == 2
    with pytest.raises(Unavailable):
        await retry_until_available(Dependency(Unavailable("away")).ask, on=(OSError,))


async def test_what_an_operation_waits_for_is_known_until_it_succeeds() -> None:
    dependency = Dependency(Unavailable("NATS is not connected"), Unavailable("no stream"))
    await retry_until_available(dependency.ask)
    assert dependency.seen == [None, "NATS is not connected", "no stream"]
    assert waiting_for() is None


async def test_a_cancelled_operation_waits_no_more() -> None:
    failed = asyncio.Event()

    async def ask() -> None:
        failed.set()
        raise Unavailable("away")

    with stamina.set_testing(False):
        pending = asyncio.create_task(retry_until_available(ask))
        await failed.wait()
        assert waiting_for() == "away"
        pending.cancel()
        await asyncio.wait({pending})
    assert waiting_for() is None


async def test_a_periodic_action_is_retried_and_repeated_until_it_is_cancelled() -> None:
    done = asyncio.Event()
    dependency = Dependency(Unavailable("away"))

    async def twice() -> None:
        await dependency.ask()
        if len(dependency.seen) == 3:
            done.set()

    repeating = asyncio.create_task(repeat_every(0, twice))
    await done.wait()
    repeating.cancel()
    await asyncio.wait({repeating})
    assert dependency.seen == [None, "away", None]


async def test_the_first_failure_is_a_warning_and_each_one_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # What ran before in this process may have configured logging, which then is kept.
    every_level = structlog.make_filtering_bound_logger("debug")
    monkeypatch.setattr(retry, "log", structlog.wrap_logger(None, wrapper_class=every_level))
    before = retries("Unavailable")
    with capture_logs() as logs:
        await retry_until_available(Dependency(*[Unavailable("NATS is away")] * 3).ask)
    assert [entry["log_level"] for entry in logs] == ["warning", "debug", "debug"]
    assert logs[0]["reason"] == "NATS is away"
    assert retries("Unavailable") == before + 3


async def test_what_made_a_server_unavailable_is_named_and_not_quoted() -> None:
    away = Unavailable("PostgreSQL is not available")
    away.__cause__ = OSError("password=hunter2")
    with capture_logs() as logs:
        await retry_until_available(Dependency(away).ask)
    assert logs[0]["cause"] == "OSError"
    assert "hunter2" not in str(logs)


async def test_another_librarys_error_is_named_and_not_quoted() -> None:
    dependency = Dependency(OSError("password=hunter2"))
    with capture_logs() as logs:
        await retry_until_available(dependency.ask, on=(OSError,))
    assert dependency.seen[1] == "OSError"
    assert "hunter2" not in str(logs)

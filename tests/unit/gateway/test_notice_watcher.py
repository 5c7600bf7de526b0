"""The start and the end of a problem are each reported once, by one gateway (ADR 23)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from hogsend.contract.notices import (
    INGEST_CLAIM_NOTICE,
    INGEST_TOLD,
    ClaimedNotice,
    Told,
    ToldProblems,
)
from hogsend.service.tasks import cancel_all
from services.gateway.notices import watcher
from services.gateway.notices.outbox import Outbox
from services.gateway.notices.watcher import NoticeWatcher
from services.gateway.notices.watches import Problems, Watch
from tests.unit.gateway.fakes import FakeConnection
from tests.unit.gateway.notices import PROBLEM, Receiver, notices_in, opened
from tests.waiting import eventually


class WatcherUnderTest:
    """A watcher of one kind, whose problems a test sets."""

    def __init__(self, directory: Path, *, local: bool = False) -> None:
        self.bus = FakeConnection()
        self.outbox = opened(directory)
        self.problems: Problems = {}
        self.watch = Watch("dead_letters.waiting", 1, self._problems, local=local)
        self.watcher = NoticeWatcher(
            self.bus, self.outbox, [self.watch], Receiver().sender(self.outbox)
        )
        self.set_reported()
        self.set_claim("claimed")

    async def _problems(self) -> Problems:
        return self.problems

    def set_reported(self, *subjects: str) -> None:
        problems = [Told("dead_letters.waiting", subject) for subject in subjects]
        self.bus.reply_with(INGEST_TOLD, ToldProblems(problems))

    def set_claim(self, outcome: Any) -> None:
        self.bus.reply_with(INGEST_CLAIM_NOTICE, ClaimedNotice(outcome))

    async def check(self) -> None:
        await self.watcher.check(self.watch)


async def test_the_start_and_the_end_of_a_problem_are_reported(tmp_path: Path) -> None:
    checking = WatcherUnderTest(tmp_path)
    checking.problems = {"a": PROBLEM}
    await checking.check()
    checking.set_reported("a")
    await checking.check()
    checking.problems = {}
    await checking.check()
    assert notices_in(checking.outbox) == [("a", "raised", True), ("a", "resolved", True)]


@pytest.mark.parametrize("outcome", ["told", "wait"])
async def test_a_problem_that_another_gateway_reports_is_not_reported_twice(
    tmp_path: Path, outcome: str
) -> None:
    checking = WatcherUnderTest(tmp_path)
    checking.set_claim(outcome)
    checking.problems = {"a": PROBLEM}
    await checking.check()
    assert notices_in(checking.outbox) == []


async def test_a_problem_with_an_undecided_claim_is_not_queued_twice(tmp_path: Path) -> None:
    checking = WatcherUnderTest(tmp_path)
    checking.problems = {"a": PROBLEM}
    del checking.bus.replies[INGEST_CLAIM_NOTICE.subject]
    await checking.check()
    await checking.check()
    assert notices_in(checking.outbox) == [("a", "raised", False)]
    # It does not block notices of another kind.
    other = Watch("destination.failing", 1, checking._problems)
    await checking.watcher.check(other)
    assert len(checking.outbox.pending) == 2


async def test_nothing_is_reported_while_the_reported_problems_are_unknown(tmp_path: Path) -> None:
    checking = WatcherUnderTest(tmp_path)
    checking.problems = {"a": PROBLEM}
    del checking.bus.replies[INGEST_TOLD.subject]
    await checking.check()
    assert notices_in(checking.outbox) == []


async def test_a_problem_of_this_gateway_is_reported_each_time_it_starts(tmp_path: Path) -> None:
    checking = WatcherUnderTest(tmp_path, local=True)
    for problems in ({"host": PROBLEM}, {}, {"host": PROBLEM}):
        checking.problems = problems
        await checking.check()
    states = [state for _, state, _ in notices_in(checking.outbox)]
    assert states == ["raised", "resolved", "raised"]


async def test_another_gateway_reports_after_the_one_with_the_outbox_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "OPEN_SECONDS", 0.01)
    first, second = WatcherUnderTest(tmp_path), WatcherUnderTest(tmp_path / "other")
    first.outbox.close()
    second.outbox.close()
    second.watcher = NoticeWatcher(
        second.bus, Outbox(tmp_path), [second.watch], Receiver().sender(Outbox(tmp_path))
    )
    checks: list[str] = []

    def record_checks(checking: WatcherUnderTest, name: str) -> None:
        async def check(_watch: Watch) -> None:
            checks.append(name)

        monkeypatch.setattr(checking.watcher, "check", check)

    record_checks(first, "first")
    record_checks(second, "second")
    reporting = asyncio.create_task(first.watcher.run())
    await eventually(lambda: checks)
    standby = asyncio.create_task(second.watcher.run())
    await eventually(lambda: len(checks) > 1)
    assert set(checks) == {"first"}
    await cancel_all(reporting)
    checks.clear()
    await eventually(lambda: checks)
    assert set(checks) == {"second"}
    await cancel_all(standby)


async def test_an_unknown_result_of_a_check_changes_nothing(tmp_path: Path) -> None:
    checking = WatcherUnderTest(tmp_path)
    checking.set_reported("a")
    checking.problems = None
    await checking.check()
    assert notices_in(checking.outbox) == []


async def test_a_claim_whose_reply_was_lost_is_repeated_with_its_id(tmp_path: Path) -> None:
    checking = WatcherUnderTest(tmp_path)
    checking.problems = {"a": PROBLEM}
    del checking.bus.replies[INGEST_CLAIM_NOTICE.subject]
    await checking.check()
    await checking.check()
    assert notices_in(checking.outbox) == [("a", "raised", False)]
    checking.outbox.close()
    again = WatcherUnderTest(tmp_path)
    again.set_reported("a")
    again.problems = {"a": PROBLEM}
    await again.check()
    assert notices_in(again.outbox) == [("a", "raised", True)]


async def test_the_use_of_the_spool_is_reported_without_any_service(tmp_path: Path) -> None:
    checking = WatcherUnderTest(tmp_path, local=True)
    checking.bus.replies.clear()
    checking.problems = {"host": PROBLEM}
    await checking.check()
    await checking.check()
    checking.outbox.close()
    again = WatcherUnderTest(tmp_path, local=True)
    again.bus.replies.clear()
    await again.check()
    assert notices_in(again.outbox) == [("host", "raised", True), ("host", "resolved", True)]

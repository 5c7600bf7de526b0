"""The operator's webhook: each problem is reported once, signed, and not lost (ADR 23)."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, Mock
from uuid import uuid4

import httpx
import msgspec
import pytest
from prometheus_client import REGISTRY
from standardwebhooks.webhooks import Webhook
from structlog.testing import capture_logs

from hogsend.contract.credentials import CREDENTIALS_STATUS, CredentialStatus
from hogsend.contract.dead_letters import INGEST_DEAD_LETTERS, DeadLetterPage
from hogsend.contract.notices import (
    ANALYTICS_FAILING,
    INGEST_CLAIM_NOTICE,
    INGEST_TOLD,
    ClaimedNotice,
    FailingDeliveries,
    FailingDelivery,
    Told,
    ToldProblems,
)
from hogsend.contract.provisioning import (
    PROVISIONER_DIAGNOSE,
    CredentialFinding,
    DestinationFinding,
    ReadsFinding,
)
from hogsend.posthog.signing import key_of
from hogsend.service.http import NOT_POSTHOG
from hogsend.service.ssrf import EgressPolicy
from hogsend.service.tasks import cancel_all
from services.gateway.notices import watcher
from services.gateway.notices.notice import Notice, Problem, raised, resolved
from services.gateway.notices.openapi import WEBHOOKS
from services.gateway.notices.outbox import MAX_PENDING, NAME, Outbox, PendingNotice
from services.gateway.notices.sender import FIRST_RETRY_SECONDS, MAX_AGE_SECONDS, NoticeSender
from services.gateway.notices.watcher import NoticeWatcher
from services.gateway.notices.watches import Problems, Watch, watches
from services.gateway.settings import GatewaySettings
from tests.ports import free_port
from tests.unit.gateway.fakes import FakeConnection
from tests.virtual_time import now, on_virtual_time, settle
from tests.waiting import eventually

SECRET = "whsec_" + "b3BlcmF0b3Igb2YgdGhpcyBpbnN0YW5jZQ=="
URL = "https://ops.example.com/hook?token=hidden"
PROBLEM = Problem("3 wait.", "Run it.")
AT = datetime(2026, 11, 26, tzinfo=UTC)


class Receiver:
    """Responds with `responses` in order, then with 204. Records the requests."""

    def __init__(self, *responses: httpx.Response | Exception) -> None:
        self.responses = list(responses)
        self.requests: list[httpx.Request] = []
        self.now = AT.timestamp()

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        response = self.responses.pop(0) if self.responses else httpx.Response(204)
        if isinstance(response, Exception):
            raise response
        return response

    def sender(self, outbox: Outbox, *, spacing: float = 0) -> NoticeSender:
        http = httpx.AsyncClient(transport=httpx.MockTransport(self.handle))
        return NoticeSender(
            outbox, http, url=URL, key=key_of(SECRET), now=lambda: self.now, spacing=spacing
        )


def waiting(*, claimed: bool = True) -> PendingNotice:
    return PendingNotice(
        uuid4(), raised("dead_letters.waiting", "dead-letters", PROBLEM, AT), claimed
    )


def opened(directory: Path) -> Outbox:
    outbox = Outbox(directory)
    assert outbox.open()
    return outbox


def notices_in(outbox: Outbox) -> list[tuple[str, str, bool]]:
    """Subject and state of the pending notices, and whether they are claimed."""
    return [
        (pending.notice.data.subject, pending.notice.data.state, pending.claimed)
        for pending in outbox.pending
    ]


async def test_a_notice_is_signed_by_standard_webhooks(tmp_path: Path) -> None:
    receiver, outbox = Receiver(), opened(tmp_path)
    receiver.now = datetime.now(UTC).timestamp()
    notice = waiting()
    await outbox.add(notice)
    assert await receiver.sender(outbox).send_due() is None
    [request] = receiver.requests
    body = Webhook(SECRET).verify(request.content, dict(request.headers))
    assert msgspec.convert(body, Notice) == notice.notice
    assert request.headers["webhook-id"] == str(notice.id)
    assert b"hidden" not in request.content
    assert request.extensions.items() >= NOT_POSTHOG.items()
    outbox.close()
    assert opened(tmp_path).pending == []


def about(subject: str) -> PendingNotice:
    return PendingNotice(uuid4(), raised("destination.failing", subject, PROBLEM, AT), claimed=True)


def attempts(outcome: str) -> float:
    labels = {"kind": "dead_letters.waiting", "outcome": outcome}
    return REGISTRY.get_sample_value("hogsend_operator_notices_total", labels) or 0.0


async def test_attempts_are_counted_by_their_outcome(tmp_path: Path) -> None:
    outcomes = ("delivered", "retried", "given_up")
    before = [attempts(outcome) for outcome in outcomes]
    receiver, outbox = Receiver(*[httpx.Response(500)] * 2), opened(tmp_path)
    sender = receiver.sender(outbox)
    await outbox.add(waiting())
    await sender.send_due()
    receiver.now += MAX_AGE_SECONDS + 1
    await sender.send_due()
    await outbox.add(waiting())
    await sender.send_due()
    assert [attempts(outcome) - old for outcome, old in zip(outcomes, before, strict=True)] == [
        1,
        1,
        1,
    ]


@on_virtual_time
async def test_requests_to_a_receiver_are_spaced() -> None:
    receiver, outbox, times = Receiver(), Outbox(Path("/nowhere")), list[float]()
    handle = receiver.handle

    def record_time(request: httpx.Request) -> httpx.Response:
        times.append(now())
        return handle(request)

    receiver.handle = record_time  # type: ignore[method-assign]
    for subject in ("a", "b", "c"):
        await outbox.add(about(subject))
    await receiver.sender(outbox, spacing=1).send_due()
    assert times == [0, 1, 2]


@on_virtual_time
async def test_a_request_without_a_response_is_retried() -> None:
    async def silent(_request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    outbox = Outbox(Path("/nowhere"))
    await outbox.add(waiting())
    async with httpx.AsyncClient(transport=httpx.MockTransport(silent)) as http:
        sender = NoticeSender(outbox, http, url=URL, key=key_of(SECRET), now=lambda: 0.0)
        assert await sender.send_due() == FIRST_RETRY_SECONDS
    assert [pending.attempts for pending in outbox.pending] == [1]


async def test_the_next_attempt_is_at_the_earliest_due_time_of_all_notices(tmp_path: Path) -> None:
    slow = httpx.Response(503, headers={"retry-after": "100"})
    receiver, outbox = Receiver(slow, httpx.Response(503)), opened(tmp_path)
    for subject in ("a", "b"):
        await outbox.add(about(subject))
    assert await receiver.sender(outbox).send_due() == FIRST_RETRY_SECONDS


async def test_the_body_of_a_response_is_not_read(tmp_path: Path) -> None:
    async def body() -> AsyncIterator[bytes]:
        raise AssertionError
        yield b""

    receiver, outbox = Receiver(httpx.Response(200, content=body())), opened(tmp_path)
    await outbox.add(waiting())
    assert await receiver.sender(outbox).send_due() is None
    outbox.close()


async def test_a_refused_notice_is_retried_under_its_id_with_growing_pauses(tmp_path: Path) -> None:
    failures: list[httpx.Response | Exception] = [
        httpx.ConnectError(f"no {URL}"),
        httpx.Response(302, headers={"location": "https://elsewhere.example.com"}),
        httpx.Response(503, headers={"retry-after": "100"}),
    ]
    receiver, outbox = Receiver(*failures), opened(tmp_path)
    sender = receiver.sender(outbox)
    await outbox.add(waiting())
    pauses = []
    while (pause := await sender.send_due()) is not None:
        pauses.append(pause)
        receiver.now += pause
    assert pauses == [5, 10, 100]
    assert len({request.headers["webhook-id"] for request in receiver.requests}) == 1


async def test_a_clock_that_is_set_back_does_not_delay_a_notice(tmp_path: Path) -> None:
    receiver, outbox = (
        Receiver(httpx.Response(503, headers={"retry-after": "3600"})),
        opened(tmp_path),
    )
    sender = receiver.sender(outbox)
    await outbox.add(waiting())
    assert await sender.send_due() == 3600
    receiver.now -= 24 * 3600
    assert await sender.send_due() is None
    assert len(receiver.requests) == 2


async def test_the_end_of_a_problem_is_not_sent_before_its_start(tmp_path: Path) -> None:
    receiver, outbox = Receiver(httpx.Response(503)), opened(tmp_path)
    sender = receiver.sender(outbox)
    await outbox.add(waiting())
    assert await sender.send_due() == 5
    over = resolved("dead_letters.waiting", "dead-letters", AT)
    await outbox.add(PendingNotice(uuid4(), over, claimed=True))
    other = raised("destination.failing", "d-1", PROBLEM, AT)
    await outbox.add(PendingNotice(uuid4(), other, claimed=True))
    assert await sender.send_due() == 5
    receiver.now += 5
    while await sender.send_due() is not None:
        pass
    notices = [msgspec.json.decode(request.content, type=Notice) for request in receiver.requests]
    assert [(notice.type, notice.data.state) for notice in notices] == [
        ("dead_letters.waiting", "raised"),
        ("destination.failing", "raised"),
        ("dead_letters.waiting", "raised"),
        ("dead_letters.waiting", "resolved"),
    ]


async def test_a_notice_survives_a_restart_and_is_abandoned_after_days(tmp_path: Path) -> None:
    receiver, outbox = Receiver(httpx.Response(500), httpx.Response(500)), opened(tmp_path)
    await outbox.add(waiting())
    await receiver.sender(outbox).send_due()
    outbox.close()
    again = opened(tmp_path)
    assert [pending.attempts for pending in again.pending] == [1]
    receiver.now += MAX_AGE_SECONDS + 1
    assert await receiver.sender(again).send_due() is None
    assert again.pending == []


async def test_an_unclaimed_notice_is_not_sent(tmp_path: Path) -> None:
    receiver, outbox = Receiver(), opened(tmp_path)
    await outbox.add(waiting(claimed=False))
    assert await receiver.sender(outbox).send_due() is None
    assert receiver.requests == []


async def test_only_one_process_at_a_time_opens_an_outbox(tmp_path: Path) -> None:
    first, second = opened(tmp_path), Outbox(tmp_path)
    assert not second.open()
    first.close()
    assert second.open()


async def test_without_locks_an_outbox_is_kept_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_locks = OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
    monkeypatch.setattr(fcntl, "flock", Mock(side_effect=no_locks))
    outbox = Outbox(tmp_path)
    with capture_logs() as lines:
        assert outbox.open()
    assert [line["reason"] for line in lines] == [str(no_locks)]
    await outbox.add(kept := waiting())
    assert outbox.pending == [kept]


async def test_a_full_outbox_drops_its_oldest_notice(tmp_path: Path) -> None:
    outbox, notices = Outbox(tmp_path), [waiting() for _ in range(MAX_PENDING + 3)]
    for notice in notices:
        await outbox.add(notice)
    assert outbox.pending == notices[3:]
    # A dropped notice may still be in delivery, and is then removed.
    await outbox.remove(notices[0])
    assert outbox.pending == notices[3:]


async def test_an_outbox_that_another_process_locked_leaves_no_file_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = opened(tmp_path), Outbox(tmp_path)
    files, open_file = list[int](), os.open

    def record_file(path: Path, flags: int, mode: int) -> int:
        files.append(open_file(path, flags, mode))
        return files[-1]

    monkeypatch.setattr(os, "open", record_file)
    assert not second.open()
    [file] = files
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(file)
    first.close()


async def test_a_closed_outbox_can_be_opened_by_the_next_process(tmp_path: Path) -> None:
    first = opened(tmp_path)
    first.close()
    second = opened(tmp_path)
    await second.add(kept := waiting())
    await first.add(waiting())
    first.close()
    assert not Outbox(tmp_path).open()
    second.close()
    assert opened(tmp_path).pending == [kept]


async def test_an_outbox_creates_its_directory(tmp_path: Path) -> None:
    directory = tmp_path / "spool" / "a"
    outbox = opened(directory)
    await outbox.add(kept := waiting())
    outbox.close()
    assert opened(directory).pending == [kept]


@on_virtual_time
async def test_a_change_of_the_outbox_wakes_one_wait_and_not_the_next() -> None:
    outbox = Outbox(Path("/nowhere"))
    waiting_for = asyncio.create_task(outbox.wait_for_change(None))
    await settle()
    assert not waiting_for.done()
    await outbox.add(waiting())
    await waiting_for
    await outbox.wait_for_change(5)
    assert now() == 5


async def test_notices_are_sent_with_a_damaged_or_unwritable_outbox(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"{")
    assert opened(tmp_path).pending == []
    unreadable = tmp_path / "unreadable"
    (unreadable / NAME).mkdir(parents=True)
    outbox = opened(unreadable)
    await outbox.add(waiting())
    assert len(outbox.pending) == 1
    file = tmp_path / "file"
    file.touch()
    outbox = opened(file / "below")
    await outbox.add(waiting())
    assert len(outbox.pending) == 1


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


class Services:
    """Services whose replies a test sets, and the watches that query them."""

    def __init__(self) -> None:
        self.bus = FakeConnection()
        self.workers: Any = Mock()
        self.watches = {
            watch.kind: watch for watch in watches(self.bus, self.workers, failing_seconds=600)
        }

    async def check(self, kind: Any) -> Problems:
        return await self.watches[kind].check()


@pytest.fixture
def services() -> Services:
    return Services()


@pytest.mark.parametrize("waiting", [1, 2])
async def test_a_short_use_of_the_spool_is_not_reported(services: Services, waiting: int) -> None:
    async def check(waiting_now: int | None) -> Problems:
        services.workers.waiting = AsyncMock(return_value=waiting_now)
        return await services.check("spool.in_use")

    # Nor is a problem that an earlier process reported resolved: the first result is unknown.
    assert await check(waiting) is None
    assert await check(waiting)
    assert await check(0) == {}
    assert await check(waiting) is None
    assert await check(None) is None
    [problem] = (await check(waiting) or {}).values()
    assert f"{waiting} wait" in problem.detail


KINDS = (
    *("credential.needs_reconnect", "dead_letters.waiting"),
    *("destination.failing", "destination.disabled"),
)


@pytest.mark.parametrize("kind", KINDS)
async def test_the_problems_of_a_service_that_does_not_reply_are_unknown(
    services: Services, kind: str
) -> None:
    assert await services.check(kind) is None


@pytest.mark.parametrize(
    ("oauth", "minted", "needs_reconnect", "is_problem"),
    [
        ("present", "absent", False, False),
        ("present", "present", True, True),
        ("unreadable", "unreadable", False, True),
        # After a new grant was stored, or with a personal key: every webhook is answered 503.
        ("present", "unreadable", False, True),
        ("absent", "unreadable", False, True),
    ],
)
async def test_a_credential_is_a_problem_when_it_needs_reconnecting_or_is_unreadable(
    services: Services, oauth: Any, minted: Any, needs_reconnect: bool, is_problem: bool
) -> None:
    status = CredentialStatus(
        version=1, oauth=oauth, scopes=[], webhook_secret=minted, needs_reconnect=needs_reconnect
    )
    services.bus.reply_with(CREDENTIALS_STATUS, status)
    problems = await services.check("credential.needs_reconnect")
    # None would mean unknown, and the problem would never be resolved.
    assert problems is not None
    assert bool(problems) is is_problem


async def test_waiting_dead_letters_are_a_problem_with_their_number(services: Services) -> None:
    services.bus.reply_with(INGEST_DEAD_LETTERS, DeadLetterPage(dead_letters=[], total=0))
    assert await services.check("dead_letters.waiting") == {}
    services.bus.reply_with(INGEST_DEAD_LETTERS, DeadLetterPage(dead_letters=[], total=3))
    problems = await services.check("dead_letters.waiting") or {}
    assert problems["dead-letters"].detail.startswith("3 messages could")
    services.bus.reply_with(INGEST_DEAD_LETTERS, DeadLetterPage(dead_letters=[], total=1))
    problems = await services.check("dead_letters.waiting") or {}
    assert problems["dead-letters"].detail.startswith("1 message could")


async def test_a_destination_is_a_problem_after_it_failed_for_the_configured_time(
    services: Services,
) -> None:
    now = datetime.now(UTC)
    destination = str(uuid4())
    failing = [
        FailingDelivery(destination, now - timedelta(seconds=601)),
        FailingDelivery("mirror", now - timedelta(seconds=601)),
        FailingDelivery("short", now - timedelta(seconds=300)),
    ]
    services.bus.reply_with(ANALYTICS_FAILING, FailingDeliveries(failing))
    problems = await services.check("destination.failing") or {}
    assert problems.keys() == {destination, "mirror"}
    # The remediation names a URL that exists: only destinations have deliveries to list.
    assert f"/v1/admin/webhooks/{destination}/deliveries" in (
        problems[destination].remediation or ""
    )
    assert "/v1/admin/webhooks" not in (problems["mirror"].remediation or "")


def diagnosed(
    destination: DestinationFinding, credential: Any = "present", reads: Any = "working"
) -> Any:
    class Diagnosed(msgspec.Struct):
        destination: DestinationFinding
        credential: CredentialFinding
        person_reads: ReadsFinding

    read = ReadsFinding(state=reads, through="none" if reads == "off" else "oauth")
    return Diagnosed(destination, CredentialFinding(state=credential), read)


@pytest.mark.parametrize(
    ("finding", "expected"),
    [
        (DestinationFinding(state="live"), set()),
        (DestinationFinding(state="unknown"), None),
        (DestinationFinding(state="disabled_by_posthog", hog_function_id="f1"), {"posthog"}),
        (DestinationFinding(state="disabled", hog_function_id="f1"), {"posthog"}),
        (DestinationFinding(state="degraded", hog_function_id="f1"), {"posthog"}),
        # PostHog sends another webhook secret; or only the filter of identified persons is missing.
        (DestinationFinding(state="drifted", hog_function_id="f1", stopped=True), {"posthog"}),
        (DestinationFinding(state="drifted", hog_function_id="f1"), set()),
        # The destination was deleted; or it never existed.
        (DestinationFinding(state="missing", stopped=True), {"posthog"}),
        (DestinationFinding(state="missing"), set()),
        # The expected state cannot be read: neither a problem nor the end of one.
        (DestinationFinding(state="live", stopped=None), None),
        (DestinationFinding(state="missing", stopped=None), None),
        (DestinationFinding(state="disabled_by_posthog", stopped=None), {"posthog"}),
    ],
)
async def test_a_disabled_degraded_or_stopped_destination_is_a_problem_at_the_second_check(
    services: Services, finding: DestinationFinding, expected: set[str] | None
) -> None:
    services.bus.reply_with(PROVISIONER_DIAGNOSE, diagnosed(finding))
    first, second = [await services.check("destination.disabled") for _ in range(2)]
    assert (None if second is None else set(second)) == expected
    # The first check reports nothing: its webhook secret may be changing at this moment.
    assert first == (None if expected else second)


@pytest.mark.parametrize(
    ("credential", "reads", "is_over"),
    [("absent", "off", True), ("absent", "working", False), ("unknown", "unknown", False)],
)
async def test_a_problem_of_the_destination_is_resolved_when_posthog_is_disconnected(
    services: Services, credential: Any, reads: Any, is_over: bool
) -> None:
    unknown = DestinationFinding(state="unknown")
    services.bus.reply_with(PROVISIONER_DIAGNOSE, diagnosed(unknown, credential, reads))
    assert await services.check("destination.disabled") == ({} if is_over else None)


def test_an_operator_webhook_url_requires_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPERATOR_WEBHOOK_URL", "http://127.0.0.1:1/x")
    with pytest.raises(ValueError, match="needs OPERATOR_WEBHOOK_SECRET"):
        GatewaySettings()
    monkeypatch.setenv("OPERATOR_WEBHOOK_SECRET", SECRET)
    assert GatewaySettings().operator_webhook_url == "http://127.0.0.1:1/x"


def test_a_private_operator_webhook_url_is_allowed_by_the_egress_policy() -> None:
    assert EgressPolicy.of((), "http://ops.internal:8080/x").names("http://ops.internal:8080")


def test_openapi_describes_the_notices_that_are_sent() -> None:
    operation = WEBHOOKS["operatorNotice"].post
    assert operation is not None
    content: Any = operation.request_body
    media = content.content["application/json"]
    sent = msgspec.to_builtins(raised("spool.in_use", "host", PROBLEM, AT))
    assert media.schema.properties.keys() == sent.keys()
    assert media.schema.properties["data"].properties.keys() == sent["data"].keys()
    assert msgspec.convert(media.examples["raised"].value, Notice).data.state == "raised"


async def test_the_receiver_in_the_documentation_accepts_signed_notices(
    tmp_path: Path,
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    with subprocess.Popen(  # noqa: ASYNC220 - it starts at once
        [sys.executable, "docs/examples/operator_receiver.py"],
        env={**os.environ, "PORT": str(port), "OPERATOR_WEBHOOK_SECRET": SECRET},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as receiver:
        try:
            outbox = opened(tmp_path)
            await outbox.add(waiting())
            transport = httpx.AsyncHTTPTransport(retries=5)
            async with httpx.AsyncClient(transport=transport) as http:
                while outbox.pending:
                    sender = NoticeSender(outbox, http, url=url, key=key_of(SECRET), spacing=0)
                    for pending in outbox.pending:
                        pending.due_at = 0
                    await sender.send_due()
                refused = await http.post(url, content=b"{}")
            assert refused.status_code == 401
            assert receiver.stdout is not None
            assert receiver.stdout.readline() == "dead_letters.waiting raised 3 wait.\n"
        finally:
            receiver.terminate()

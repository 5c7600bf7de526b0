"""The backfill's runner: its pauses, its page sizes, and when it fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from hogsend.contract.backfills import INGEST_STORE_PAST, PastEvent, PastStored, StorePast
from hogsend.contract.errors import Forbidden, HogsendError, TooLarge, Unavailable
from hogsend.contract.provisioning import Refusal
from hogsend.posthog.api import PostHogError
from hogsend.posthog.api.queries import EventRange, Page
from hogsend.posthog.errors import PostHogResponseTooLarge, PostHogTimeout, PostHogUnreachable
from hogsend.posthog.project_choice import ProjectChoice
from hogsend.service.locks import Busy
from services.provisioner.backfill import runner as runner_module
from services.provisioner.backfill.job import Job
from services.provisioner.backfill.posthog_events import Refused, permanent_refusal
from services.provisioner.backfill.runner import (
    CHUNK_EVENTS,
    EVENTS,
    FAILURE_SECONDS,
    PAGE_EVENTS,
    POLL_SECONDS,
    RATE_LIMIT_SECONDS,
    BackfillRunner,
)
from services.provisioner.backfill.span import MIN_LENGTH, Span
from tests.unit.provisioner.backfill_jobs import JOB, THEN
from tests.virtual_time import on_virtual_time


class FakeStore:
    """Records the calls of the runner."""

    def __init__(self, *, moves: bool = True) -> None:
        self.due_jobs: list[Job | HogsendError | None] = []
        """Results of the next calls of `due`; None after them."""
        self.lock_error: HogsendError | None = None
        self.pauses: list[float] = []
        self.ended: list[tuple[str, str | None]] = []
        self.positions: list[tuple[Any, int, PastStored]] = []
        self.advanced_from: list[tuple[Any, str | None]] = []
        self.left_out: list[str] = []
        self._moves = moves

    async def due(self) -> Job | None:
        result = self.due_jobs.pop(0) if self.due_jobs else None
        if isinstance(result, HogsendError):
            raise result
        return result

    @asynccontextmanager
    async def lock(self) -> AsyncIterator[FakeStore]:
        yield self

    async def confirm(self) -> None:
        if self.lock_error is not None:
            raise self.lock_error

    async def wait(self, _job: Job, seconds: float, _detail: str, _remedy: str | None) -> None:
        self.pauses.append(seconds)

    async def end(
        self, _id: Any, state: str, _detail: str | None = None, remediation: str | None = None
    ) -> None:
        self.ended.append((state, remediation))

    async def set_received_at(self, job: Job) -> Job | None:
        return job if self._moves else None

    async def advance(
        self, job: Job, to: Any, read: int, result: PastStored, *, left_out: str | None = None
    ) -> bool:
        self.advanced_from.append((job.position_at, job.position_uuid))
        self.positions.append((to, read, result))
        if left_out is not None:
            self.left_out.append(left_out)
        return self._moves


class FakePostHog:
    """Returns a page or raises an error for each query."""

    def __init__(self, *results: Exception | Page) -> None:
        self.limits: list[int] = []
        """Limit of events of each query."""
        self.position: tuple[datetime, str] | None = (THEN, "huge")
        self._results = list(results)

    async def query(
        self, call: Callable[[FakePostHog], Awaitable[Any]], project: str | None
    ) -> Any:
        assert project == JOB.project
        return await call(self)

    async def page(self, _events: Any, limit: int) -> Page:
        self.limits.append(limit)
        # The last result is repeated.
        result = self._results.pop(0) if len(self._results) > 1 else self._results[0]
        if isinstance(result, Exception):
            raise result
        return result

    async def next_position(self, _events: Any) -> tuple[datetime, str] | None:
        return self.position


class FakeLink:
    """Ingest, which stores every event except one that is too large."""

    def __init__(self, max_payload: int = 1024 * 1024) -> None:
        self.max_payload = max_payload
        self.requests: list[int] = []
        self.received_at: list[datetime] = []

    async def request(self, endpoint: Any, past: StorePast) -> PastStored:
        assert endpoint is INGEST_STORE_PAST
        if any(event.uuid == "large" for event in past.events):
            raise TooLarge("too large")
        self.requests.append(len(past.events))
        self.received_at.append(past.received_at)
        return PastStored(stored=len(past.events), known=0, rejected=0)


def event(uuid: str, size: int = 0) -> PastEvent:
    return PastEvent(
        uuid=uuid, event="e", distinct_id="u", timestamp=THEN, properties={"text": "x" * size}
    )


def counted() -> list[float]:
    """Return how many events were stored, rejected, and unreadable so far."""
    return [EVENTS.labels(name)._value.get() for name in ("stored", "rejected", "unreadable")]


def runner_with(
    result: Exception | Page, store: FakeStore, link: FakeLink | None = None
) -> BackfillRunner:
    return BackfillRunner(store, FakePostHog(result), link or FakeLink())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (PostHogError("limited", 429, retry_after=7), 7),
        (PostHogError("limited", 429), RATE_LIMIT_SECONDS),
        (PostHogError("away", 503), FAILURE_SECONDS),
        (PostHogTimeout("slow"), FAILURE_SECONDS),
    ],
)
async def test_a_backfill_pauses_as_long_as_the_error_of_posthog_requires(
    error: PostHogError, seconds: float
) -> None:
    store = FakeStore()
    await runner_with(error, store)._step(JOB)
    assert (store.pauses, store.ended) == ([seconds], [])


async def pages(*results: Exception | Page, jobs: list[Job] | None = None) -> list[int]:
    """Return the limits of the queries with these results, and of the query after them."""
    posthog = FakePostHog(*results, Page([], 0))
    runner = BackfillRunner(FakeStore(), posthog, FakeLink())  # type: ignore[arg-type]
    for job in jobs or [JOB] * (len(results) + 1):
        await runner._step(job)
    return posthog.limits


@pytest.mark.parametrize(
    "error",
    [
        PostHogTimeout("slow"),
        PostHogError("slow", 504),
        PostHogError("it would be slow", 512),
        PostHogError("out of memory", 513),
        PostHogError("it would read too much", 400, code="TOO_MANY_BYTES"),
        PostHogResponseTooLarge("large"),
    ],
)
async def test_a_page_that_posthog_cannot_return_is_halved(error: PostHogError) -> None:
    assert await pages(error) == [PAGE_EVENTS, PAGE_EVENTS // 2]


@pytest.mark.parametrize(
    "error",
    [
        PostHogError("limited", 429),
        PostHogError("away", 503),
        PostHogError("broken", 500),
        PostHogError("no rows"),
        PostHogUnreachable("nothing listens there"),
    ],
)
async def test_an_error_unrelated_to_the_page_keeps_its_size(error: PostHogError) -> None:
    assert await pages(*[error] * 3) == [PAGE_EVENTS] * 4


async def test_a_successful_page_is_followed_by_a_page_of_twice_the_size() -> None:
    slow, worked = PostHogTimeout("slow"), Page([event("a")], 0)
    halves = [PAGE_EVENTS, PAGE_EVENTS // 2, PAGE_EVENTS // 4]
    assert await pages(slow, slow, *[worked] * 3) == [*halves, *halves[1::-1], PAGE_EVENTS]


def single_event_runner(posthog: FakePostHog, store: FakeStore) -> BackfillRunner:
    """Return a runner whose page size has shrunk to one event."""
    runner = BackfillRunner(store, posthog, FakeLink())  # type: ignore[arg-type]
    runner._adapted_to, runner._page_events, runner._span = JOB.id, 1, Span(JOB, PAGE_EVENTS)
    return runner


async def test_an_event_that_is_too_large_by_itself_is_skipped_and_counted() -> None:
    posthog, store = (
        FakePostHog(PostHogResponseTooLarge("large"), Page([event("a")], 0)),
        FakeStore(),
    )
    runner = single_event_runner(posthog, store)
    await runner._step(JOB)
    assert store.positions == [((THEN, "huge"), 1, PastStored(stored=0, known=0, rejected=1))]
    assert "huge" in store.left_out[0]
    assert (store.pauses, store.ended) == ([], [])
    await runner._step(JOB)
    assert (posthog.limits, runner._page_events) == ([1, 1], 2)


async def test_no_event_is_skipped_before_it_was_queried_alone() -> None:
    posthog, store = FakePostHog(PostHogResponseTooLarge("large")), FakeStore()
    runner = single_event_runner(posthog, store)
    runner._page_events = 2
    await runner._step(JOB)
    assert (store.positions, runner._page_events) == ([], 1)


async def test_the_query_is_repeated_when_the_event_that_was_too_large_is_deleted() -> None:
    posthog, store = FakePostHog(PostHogResponseTooLarge("large")), FakeStore()
    posthog.position = None
    await single_event_runner(posthog, store)._step(JOB)
    assert (store.positions, store.pauses, store.ended) == ([], [], [])


async def test_a_timeout_with_a_page_of_one_event_is_retried_after_a_pause() -> None:
    posthog, store = FakePostHog(PostHogTimeout("slow")), FakeStore()
    runner = single_event_runner(posthog, store)
    await runner._step(JOB)
    assert (store.positions, store.pauses, runner._page_events) == ([], [FAILURE_SECONDS], 1)


async def test_a_page_of_one_invalid_row_is_retried_with_a_larger_page() -> None:
    posthog, store = FakePostHog(Page([], 1)), FakeStore()
    runner = single_event_runner(posthog, store)
    await runner._step(JOB)
    assert (store.pauses, store.ended, runner._page_events) == ([FAILURE_SECONDS], [], 2)


async def test_another_backfill_starts_with_full_pages() -> None:
    other = msgspec.structs.replace(JOB, id=uuid4())
    slow = PostHogTimeout("slow")
    limits = await pages(slow, slow, jobs=[JOB, JOB, other])
    assert limits == [PAGE_EVENTS, PAGE_EVENTS // 2, PAGE_EVENTS]


async def test_an_error_that_only_an_operator_can_fix_fails_the_backfill_with_the_remedy() -> None:
    store = FakeStore()
    refusal = Refusal(reason="posthog", code="missing-scope", remediation="grant it")
    await runner_with(Refused(refusal), store)._step(JOB)
    assert (store.pauses, store.ended) == ([], [("failed", "grant it")])


async def test_the_position_is_that_of_the_last_stored_event() -> None:
    store, link = FakeStore(), FakeLink(max_payload=1000)
    await runner_with(Page([event("a", 300), event("b", 300)], 0), store, link)._step(JOB)
    assert link.requests == [1, 1]
    assert [to for to, _, _ in store.positions] == [(THEN, "a"), (THEN, "b")]
    assert store.advanced_from == [(None, None), (THEN, "a")]
    assert store.ended == []


async def test_an_event_too_large_for_nats_is_counted_and_the_others_are_stored() -> None:
    store, link = FakeStore(), FakeLink(max_payload=100)
    before = counted()
    await runner_with(Page([event("large", 300), event("b")], 0), store, link)._step(JOB)
    assert [done for _, _, done in store.positions] == [
        PastStored(stored=0, known=0, rejected=1),
        PastStored(stored=1, known=0, rejected=0),
    ]
    assert [now - then for now, then in zip(counted(), before, strict=True)] == [1, 1, 0]


async def test_rows_that_are_no_events_are_counted_and_the_others_are_stored() -> None:
    store, before = FakeStore(), counted()
    await runner_with(Page([event("a")], 2), store)._step(JOB)
    assert [to for to, _, _ in store.positions] == [(THEN, "a")]
    assert (store.pauses, store.ended) == ([], [])
    assert [now - then for now, then in zip(counted(), before, strict=True)] == [1, 0, 2]


async def test_a_page_of_small_events_is_stored_in_chunks_of_limited_length() -> None:
    link, count = FakeLink(), 2 * CHUNK_EVENTS + 1
    page = Page([event(f"{number}") for number in range(count)], 0)
    await runner_with(page, FakeStore(), link)._step(JOB)
    assert link.requests == [CHUNK_EVENTS, CHUNK_EVENTS, 1]


@pytest.mark.parametrize("received_at", [None, THEN + timedelta(hours=7)])
async def test_events_are_stored_with_the_time_of_receipt_that_a_repetition_has_too(
    received_at: datetime | None,
) -> None:
    """Ingest recognizes by this time which events of a repeated chunk it has counted before."""
    link = FakeLink()
    job = msgspec.structs.replace(JOB, received_at=received_at)
    await runner_with(Page([event("a")], 0), FakeStore(), link)._step(job)
    assert link.received_at == [received_at or JOB.started_at]


async def test_a_cancelled_backfill_stops_within_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    store, link = FakeStore(moves=False), FakeLink(max_payload=100)
    runner = runner_with(Page([event("a"), event("b")], 0), store, link)
    await runner._step(JOB)
    assert (link.requests, store.ended) == ([], []), "cancelled while PostHog was queried"

    async def still_running(job: Job) -> Job:
        return job

    monkeypatch.setattr(store, "set_received_at", still_running)
    await runner._step(JOB)
    assert (link.requests, store.ended) == ([1], []), "cancelled while ingest stored the events"


async def test_a_backfill_is_finished_when_a_page_is_empty() -> None:
    store = FakeStore()
    await runner_with(Page([], 0), store)._step(JOB)
    assert store.ended == [("finished", None)]


@on_virtual_time
async def test_a_backfill_is_run_after_any_failure_of_a_dependency() -> None:
    store = FakeStore()
    store.due_jobs = [Busy("locked"), Unavailable("PostgreSQL is down"), Forbidden("no"), JOB, JOB]
    running = asyncio.create_task(runner_with(Page([], 0), store).run())
    await asyncio.sleep(3.5 * POLL_SECONDS)
    assert store.ended == [("finished", None)]
    running.cancel()


@on_virtual_time
async def test_a_backfill_that_was_just_started_is_run_at_once() -> None:
    store = FakeStore()
    runner = runner_with(Page([], 0), store)
    running = asyncio.create_task(runner.run())
    for _ in range(2):
        await asyncio.sleep(POLL_SECONDS / 4)
        store.due_jobs, store.ended = [JOB, JOB], []
        runner.wake()
        await asyncio.sleep(POLL_SECONDS / 4)
        assert store.ended == [("finished", None)]
    running.cancel()


async def test_nothing_is_read_after_another_replica_took_the_lock() -> None:
    store, posthog = FakeStore(), FakePostHog(Page([], 0))
    store.due_jobs, store.lock_error = [JOB, JOB], Busy("the backfill lost its lock")
    runner = BackfillRunner(store, posthog, FakeLink())  # type: ignore[arg-type]
    with pytest.raises(Busy):
        await runner._work()
    assert (posthog.limits, store.ended) == ([], [])


PAGE = 50
DAY = timedelta(days=1)


class SlowPostHog:
    """Reads all events in the time range of a query, and fails if there are too many."""

    def __init__(self, moments: Sequence[timedelta], max_events: int) -> None:
        self.events = [
            msgspec.structs.replace(event(f"{number:05}"), timestamp=THEN + moment)
            for number, moment in enumerate(sorted(moments))
        ]
        self.queried: list[EventRange] = []
        self._max_events = max_events

    async def query(self, call: Callable[[SlowPostHog], Awaitable[Any]], _project: str) -> Any:
        return await call(self)

    async def page(self, queried: EventRange, limit: int) -> Page:
        self.queried.append(queried)
        after = queried.after or (queried.since, "")
        in_range = [event for event in self.events if after[0] <= event.timestamp < queried.until]
        if len(in_range) > self._max_events:
            raise PostHogTimeout("slow")
        remaining = [event for event in in_range if (event.timestamp, event.uuid) > after]
        return Page(remaining[:limit], 0)


class MovingStore(FakeStore):
    """Also stores the backfill with its position."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.job = job

    async def advance(
        self, _job: Job, to: Any, read: int, _done: PastStored, *, left_out: str | None = None
    ) -> bool:
        read += self.job.read
        at, uuid = to
        self.job = msgspec.structs.replace(
            self.job, position_at=at, position_uuid=uuid, read=read, left_out=left_out
        )
        return True


def evenly_spaced(number: int, days: float, start: float = 0) -> list[timedelta]:
    return [DAY * (start + days * index / number) for index in range(number)]


@pytest.mark.parametrize(
    ("moments", "queries"),
    [
        # The necessary number of pages, and a last one that is empty.
        (evenly_spaced(2000, 365), 45),
        # Most events on one day, after a time without events.
        (evenly_spaced(100, 100) + evenly_spaced(1900, 1, start=300), 70),
        # Many events at the same time.
        ([DAY * 200] * 160 + evenly_spaced(400, 365), 35),
        # Few enough events for one query.
        (evenly_spaced(PAGE - 1, 365), 2),
        ([], 1),
    ],
)
async def test_the_time_range_of_a_query_adapts_to_the_density_of_events(
    monkeypatch: pytest.MonkeyPatch, moments: Sequence[timedelta], queries: int
) -> None:
    monkeypatch.setattr(runner_module, "PAGE_EVENTS", PAGE)
    posthog = SlowPostHog(moments, max_events=PAGE * 4)
    store = MovingStore(
        msgspec.structs.replace(JOB, until=THEN + DAY * 365, total=len(posthog.events))
    )
    runner = BackfillRunner(store, posthog, FakeLink())  # type: ignore[arg-type]
    while not store.ended:
        await runner._step(store.job)
        assert len(posthog.queried) <= queries
    assert (store.ended, store.job.read) == ([("finished", None)], len(moments))
    assert posthog.queried[-1].until == store.job.until


def test_a_time_range_is_at_least_a_minute_and_at_most_the_remaining_time() -> None:
    job = msgspec.structs.replace(JOB, until=THEN + DAY, total=10 * PAGE_EVENTS)
    span = Span(job, PAGE_EVENTS)
    assert span.next_range(job).until == THEN + DAY / 10
    for _ in range(20):
        span.shorten()
    assert span.next_range(job).until == THEN + MIN_LENGTH
    for _ in range(20):
        span.adapt(span.next_range(job), Page([], 0), 1)
    assert span.next_range(job) == job.remaining


def test_a_full_page_shortens_the_next_query() -> None:
    job = msgspec.structs.replace(JOB, until=THEN + DAY)
    span = Span(job, PAGE_EVENTS)
    last = msgspec.structs.replace(event("a"), timestamp=THEN + DAY / 24)
    span.adapt(span.next_range(job), Page([last], 0), 1)
    assert span.next_range(job).until == THEN + DAY / 12


def test_the_earliest_and_latest_times_can_be_queried() -> None:
    since = datetime(1, 1, 1, tzinfo=UTC)
    job = msgspec.structs.replace(JOB, since=since, total=2 * PAGE_EVENTS)
    assert Span(job, PAGE_EVENTS).next_range(job).until == since + (THEN - since) / 2


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (401, "unauthorized"),
        (403, "missing-scope"),
        (404, "project-discovery-failed"),
        (400, "api-error"),
        (429, None),
        (500, None),
        (512, None),
        (None, None),
    ],
)
def test_only_errors_that_retrying_does_not_fix_are_permanent(
    status: int | None, code: str | None
) -> None:
    refusal = permanent_refusal(
        PostHogError("no", status), ProjectChoice("77", "POSTHOG_PROJECT_ID")
    )
    assert (refusal.code if refusal else None) == code
    assert refusal is None or refusal.remediation


def test_a_query_that_would_read_too_many_bytes_is_no_permanent_refusal() -> None:
    error = PostHogError("no", 400, code="too_many_bytes")
    assert permanent_refusal(error, ProjectChoice("77", "POSTHOG_PROJECT_ID")) is None


def test_a_deleted_project_is_reported() -> None:
    refusal = permanent_refusal(
        PostHogError("Project not found.", 404), ProjectChoice("77", "grant", ["77"])
    )
    assert refusal is not None
    assert "Project 77 is gone" in (refusal.detail or "")
    assert "connect posthog` again" in (refusal.remediation or "")


def test_a_404_without_a_chosen_project_is_not_reported_as_a_deleted_project() -> None:
    refusal = permanent_refusal(PostHogError("no", 404), ProjectChoice(None, "current"))
    assert refusal is not None
    assert refusal.code == "api-error"


def test_a_key_without_access_to_the_project_is_not_reported_as_a_missing_scope() -> None:
    detail = "API key does not have access to the requested project: ID 7."
    refusal = permanent_refusal(PostHogError(detail, 403), ProjectChoice(None, "current"))
    assert refusal is not None
    assert "POSTHOG_PROJECT_ID" in (refusal.remediation or "")
    assert "scope" not in (refusal.remediation or "")

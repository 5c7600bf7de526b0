"""Starting and cancelling backfills: one runs at a time, and the same one is resumed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Literal
from uuid import UUID, uuid4

import msgspec
import pytest

from hogsend.contract.backfills import StartBackfill
from hogsend.contract.errors import InvalidRequest, NotFound
from hogsend.contract.moments import EARLIEST
from hogsend.contract.provisioning import Refusal
from hogsend.posthog.api import EventRange, PostHogError
from services.provisioner.backfill.backfills import Backfills
from services.provisioner.backfill.job import Job, ProjectCount
from services.provisioner.backfill.posthog_events import Refused
from services.provisioner.backfill.store import AlreadyRunning
from tests.unit.provisioner.backfill_jobs import JOB

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SINCE = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
PROJECT = "https://posthog.example/project/1"
REQUEST = StartBackfill(since=SINCE, events=["b", "a"])


class FakeStore:
    """At most one backfill, in memory."""

    def __init__(self) -> None:
        self.job: Job | None = None
        self.started_meanwhile: Job | None = None
        """A backfill that another replica starts while the events are counted."""

    async def now(self) -> datetime:
        return NOW

    async def running(self) -> Job | None:
        return self.job if self.job is not None and self.job.state == "running" else None

    async def unfinished(self, request: StartBackfill, _project: str) -> Job | None:
        is_same = self.job is not None and self.job.matches(request)
        return self.job if is_same and self.job and self.job.state != "finished" else None

    async def create(
        self, request: StartBackfill, count: ProjectCount, until: datetime, started_at: datetime
    ) -> Job:
        self._start()
        self.job = msgspec.structs.replace(
            JOB,
            id=uuid4(),
            project=count.project,
            since=request.since,
            until=until,
            events=sorted(request.events),
            announce=request.announce,
            started_at=started_at,
            total=count.total,
        )
        return self.job

    async def resume(self, job: Job, project: str) -> Job:
        self._start()
        self.job = msgspec.structs.replace(job, state="running", project=project)
        return self.job

    async def end(self, id: UUID, state: Literal["cancelled"]) -> Job | None:
        if self.job is None or (self.job.id, self.job.state) != (id, "running"):
            return None
        self.job = msgspec.structs.replace(self.job, state=state)
        return self.job

    async def get(self, id: UUID) -> Job | None:
        return self.job if self.job is not None and self.job.id == id else None

    def _start(self) -> None:
        if self.started_meanwhile is not None:
            self.job = self.started_meanwhile
            raise AlreadyRunning


class FakePostHog:
    """Counts seven events in each range, or raises an error."""

    project = PROJECT

    def __init__(self) -> None:
        self.counted: list[EventRange] = []
        self.error: Exception | None = None

    async def query(self, call: Callable[[FakePostHog], Awaitable[ProjectCount]]) -> ProjectCount:
        if self.error is not None:
            raise self.error
        return await call(self)

    async def count(self, events: EventRange) -> int:
        self.counted.append(events)
        return 7


class Service:
    """The backfills with a store and a PostHog in memory."""

    def __init__(self) -> None:
        self.store, self.posthog = FakeStore(), FakePostHog()
        self.wakes = 0
        store: Any = self.store
        posthog: Any = self.posthog
        self.backfills = Backfills(store, posthog, self._wake)

    async def start(self, **changes: Any) -> Any:
        return await self.backfills.start(msgspec.structs.replace(REQUEST, **changes))

    def _wake(self) -> None:
        self.wakes += 1


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.mark.parametrize("until", [None, NOW + DAY, NOW - DAY])
async def test_a_backfill_reads_events_until_the_requested_time_or_now(
    service: Service, until: datetime | None
) -> None:
    backfill = (await service.start(until=until)).backfill
    end = NOW - DAY if until == NOW - DAY else NOW
    assert (backfill.since, backfill.until, backfill.total) == (SINCE, end, 7)
    assert service.posthog.counted == [EventRange(since=SINCE, until=end, events=["a", "b"])]
    assert service.wakes == 1


@pytest.mark.parametrize(
    "since",
    [
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))),
    ],
    ids=["UTC", "+14:00"],
)
async def test_a_backfill_since_the_first_time_starts_at_the_earliest_time_of_an_event(
    service: Service, since: datetime
) -> None:
    assert (await service.start(since=since)).backfill.since == EARLIEST
    assert (await service.start(since=since)).refusal is None, "the same backfill runs"


@pytest.mark.parametrize(
    ("since", "until"),
    [(NOW, None), (NOW + DAY, NOW + 2 * DAY), (SINCE, SINCE), (SINCE + DAY, SINCE)],
)
async def test_a_time_range_without_any_time_in_the_past_is_refused(
    service: Service, since: datetime, until: datetime | None
) -> None:
    with pytest.raises(InvalidRequest, match="since must be before until"):
        await service.start(since=since, until=until)
    assert (service.posthog.counted, service.store.job, service.wakes) == ([], None, 0)


async def test_a_dry_run_counts_and_starts_nothing(service: Service) -> None:
    reply = await service.start(dry_run=True)
    assert (reply.count, reply.backfill, reply.refusal) == (7, None, None)
    assert (service.store.job, service.wakes) == (None, 0)
    await service.start()
    assert (await service.start(dry_run=True)).count == 7, "also while a backfill runs"
    assert service.wakes == 1


async def test_a_repeated_request_returns_the_running_backfill(service: Service) -> None:
    first = (await service.start()).backfill
    repeated = (await service.start(events=["a", "b"])).backfill
    assert repeated == first
    assert (len(service.posthog.counted), service.wakes) == (1, 1)


@pytest.mark.parametrize(
    "changes",
    [{"since": SINCE + DAY}, {"until": NOW - DAY}, {"events": ["a"]}, {"announce": True}],
    ids=lambda changes: next(iter(changes)),
)
async def test_another_backfill_is_refused_while_one_runs(
    service: Service, changes: dict[str, Any]
) -> None:
    first = (await service.start()).backfill
    reply = await service.start(**changes)
    assert (reply.backfill, reply.refusal.code) == (None, "backfill_running")
    assert SINCE.isoformat() in reply.refusal.detail
    assert "hogsend backfill cancel" in reply.refusal.remediation
    assert service.store.job is not None
    assert (str(service.store.job.id), service.wakes) == (first.id, 1)


@pytest.mark.parametrize("has_ended", [False, True])
async def test_a_backfill_is_refused_when_another_one_starts_during_the_count(
    service: Service, has_ended: bool
) -> None:
    await service.start(since=SINCE + DAY)
    other, service.store.job = service.store.job, None
    assert other is not None
    state: Any = "finished" if has_ended else "running"
    service.store.started_meanwhile = msgspec.structs.replace(other, state=state)
    reply = await service.start()
    assert (reply.backfill, reply.refusal.code) == (None, "backfill_running")
    assert ((SINCE + DAY).isoformat() in reply.refusal.detail) is not has_ended
    assert service.wakes == 1


async def test_a_cancelled_backfill_is_resumed_by_the_same_request(service: Service) -> None:
    first = (await service.start()).backfill
    assert (await service.backfills.cancel(first.id)).state == "cancelled"
    assert (await service.backfills.cancel(first.id)).state == "cancelled", "it has ended"
    resumed = (await service.start()).backfill
    assert (resumed.id, resumed.state, service.wakes) == (first.id, "running", 2)


@pytest.mark.parametrize("id", ["x", "", str(UUID(int=1))])
async def test_an_unknown_backfill_cannot_be_cancelled(service: Service, id: str) -> None:
    await service.start()
    with pytest.raises(NotFound):
        await service.backfills.cancel(id)
    assert await service.store.running() is not None


@pytest.mark.parametrize(
    ("error", "code", "remedy"),
    [
        (PostHogError("limited", 429, retry_after=7), "api-error", "Wait 7 seconds."),
        (PostHogError("limited", 429), "api-error", "again"),
        (PostHogError("it would be slow", 512), "api-error", "in parts"),
        (
            Refused(Refusal(reason="precondition", code="none", remediation="Connect.")),
            "none",
            "Connect.",
        ),
    ],
)
async def test_nothing_is_started_when_posthog_cannot_count(
    service: Service, error: Exception, code: str, remedy: str
) -> None:
    service.posthog.error = error
    reply = await service.start()
    assert (reply.backfill, reply.refusal.code) == (None, code)
    assert remedy in reply.refusal.remediation
    assert ("in parts" in reply.refusal.remediation) is (remedy == "in parts")
    assert ("Wait" in reply.refusal.remediation) is ("Wait" in remedy)
    assert (service.store.job, service.wakes) == (None, 0)

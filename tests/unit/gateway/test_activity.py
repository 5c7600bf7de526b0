"""Activity of the services: rates summed over all processes, and null for unknown figures."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from hogsend.contract.activity import (
    Activity,
    AnalyticsActivity,
    Distribution,
    GatewayActivity,
    IngestActivity,
)
from hogsend.contract.errors import Forbidden, HogsendError, Unavailable
from hogsend.service.discovery import Stats
from services.gateway.activity import log
from services.gateway.activity.documents import ActivityReport
from services.gateway.activity.log import ActivityLog, gateway_activity
from services.gateway.activity.rates import Reply, Snapshot, point
from services.ingest.metrics import activity as ingest_activity
from tests.unit.gateway.fakes import INGEST_KEY, READ_KEY, FakeGateway, bearer

AT = datetime(2026, 1, 1, tzinfo=UTC)
BOUNDS = [0.01, 0.1, 1.0]


def ingest(stored: int = 0, *, counts: tuple[int, ...] = (0, 0, 0, 0), **more: Any) -> Activity:
    defaults = {
        "duplicates": 0,
        "announced": 0,
        "dead_letters": 0,
        "waiting": 0,
        "waited_seconds": 0.0,
        "announced_seconds": Distribution(bounds=BOUNDS, counts=list(counts)),
    }
    return Activity(ingest=IngestActivity(stored=stored, **{**defaults, **more}))


def analytics(delivered: int, waiting: int = 0) -> Activity:
    return Activity(
        analytics=AnalyticsActivity(delivered=delivered, failed=0, retried=0, waiting=waiting)
    )


def gateway_figures(webhooks: int) -> Activity:
    return Activity(
        gateway=GatewayActivity(webhooks=webhooks, refused=0, spooled=2, spool_bytes=20)
    )


def snapshot_at(seconds: float, *, started: datetime = AT, **responses: Activity) -> Snapshot:
    return Snapshot(
        AT + timedelta(seconds=seconds),
        seconds,
        {process: Reply(started, activity) for process, activity in responses.items()},
    )


def test_the_rate_of_a_service_is_the_sum_over_all_its_processes() -> None:
    before = snapshot_at(100, a=ingest(100), b=ingest(7), g=gateway_figures(3))
    now = snapshot_at(110, a=ingest(150), b=ingest(17), g=gateway_figures(23))
    rates = point(before, now)
    assert (rates.stored, rates.webhooks) == (6.0, 2.0)
    assert (now.instances.ingest, now.instances.gateway) == (2, 1)


def test_figures_of_a_service_that_does_not_reply_are_unknown_and_never_0() -> None:
    before = snapshot_at(100, a=ingest(100), d=analytics(5), g=gateway_figures(0))
    rates = point(before, snapshot_at(110, g=gateway_figures(0)))
    assert (rates.stored, rates.announced, rates.waiting, rates.p99_seconds) == (None,) * 4
    assert (rates.delivered, rates.undelivered) == (None, None)
    assert rates.webhooks == 0


def test_a_sum_in_which_a_process_is_missing_is_unknown() -> None:
    before = snapshot_at(100, a=ingest(100), b=ingest(100))
    only_one = snapshot_at(110, a=ingest(150))
    assert point(before, only_one).stored is None
    # From the second snapshot without it, the process no longer counts as missing.
    assert point(only_one, snapshot_at(120, a=ingest(160))).stored == 1.0


def test_a_process_counts_from_its_start_or_its_second_reply() -> None:
    before, now = snapshot_at(100), snapshot_at(110, a=ingest(500))
    assert point(before, now).stored is None
    assert point(None, now).stored is None
    new = snapshot_at(110, started=AT + timedelta(seconds=105), a=ingest(500))
    assert point(before, new).stored == 50.0


def test_levels_of_a_shared_queue_are_not_summed_and_levels_of_processes_are() -> None:
    now = snapshot_at(
        110,
        a=ingest(waiting=5, waited_seconds=0.1),
        b=ingest(waiting=7, waited_seconds=0.3),
        c=analytics(0, 4),
        d=analytics(0, 5),
        g=gateway_figures(0),
        h=gateway_figures(0),
    )
    rates = point(None, now)
    assert (rates.waiting, rates.waited_seconds) == (7, 0.3)
    assert (rates.undelivered, rates.spooled, rates.spool_bytes) == (9, 4, 40)


@pytest.mark.parametrize(
    ("counts", "p50", "p99"),
    [
        ((0, 0, 0, 0), None, None),
        ((10, 10, 10, 10), 0.005, 0.0099),
        ((0, 100, 100, 100), 0.055, 0.0991),
        ((50, 100, 100, 100), 0.01, 0.0982),
        ((0, 0, 0, 3), 1.0, 1.0),
    ],
)
def test_a_quantile_is_estimated_within_its_bucket(
    counts: tuple[int, ...], p50: float | None, p99: float | None
) -> None:
    before = snapshot_at(100, a=ingest(counts=(1, 2, 3, 4)))
    now = snapshot_at(110, a=ingest(counts=tuple(map(sum, zip(counts, (1, 2, 3, 4), strict=True)))))
    rates = point(before, now)
    assert (rates.p50_seconds, rates.p99_seconds) == (p50, p99)


def test_histograms_with_different_buckets_have_no_quantile() -> None:
    other = Distribution(bounds=[1.0], counts=[0, 0])
    before = snapshot_at(100, a=ingest(), b=ingest(announced_seconds=other))
    now = snapshot_at(110, a=ingest(counts=(1, 1, 1, 1)), b=ingest(announced_seconds=other))
    assert point(before, now).p50_seconds is None
    assert point(before, now).stored == 0


class Services:
    """The services that reply on the bus."""

    def __init__(self) -> None:
        self.running: dict[str, Activity | None] = {}
        self.fails: HogsendError | None = None
        self.queries = 0

    async def request_many(self, bus: object, subject: str, *, seconds: float) -> list[bytes]:
        assert (bus, subject, seconds) == (self, "$SRV.STATS", 1.0)
        self.queries += 1
        if self.fails is not None:
            raise self.fails
        replies = [
            msgspec.json.encode(
                Stats(name="x", id=name, version="1", started=AT, endpoints=[], data=data)
            )
            for name, data in self.running.items()
        ]
        return [*replies, b"nonsense", b'{"name":"of others"}']


@pytest.fixture
def services() -> Services:
    return Services()


@pytest.fixture
def activity(services: Services, monkeypatch: pytest.MonkeyPatch) -> ActivityLog:
    monkeypatch.setattr(log, "request_many", services.request_many)
    bus: Any = services
    return ActivityLog(bus, own=lambda: gateway_figures(7))


async def test_the_gateways_own_activity_counts_once_and_is_reported_without_nats(
    services: Services, activity: ActivityLog
) -> None:
    services.running = {"me": gateway_figures(100), "i": ingest(waiting=3), "old": None}
    await activity.query("me", AT)
    report = activity.report()
    assert (report.instances.gateway, report.instances.ingest) == (1, 1)
    assert (report.latest.spooled, report.latest.waiting) == (2, 3)
    services.fails = Unavailable("NATS is not connected")
    await activity.query("me", AT + timedelta(seconds=10))
    report = activity.report()
    assert (report.latest.spooled, report.latest.webhooks, report.latest.waiting) == (2, 0, None)
    assert report.series.waiting == [3, None]


async def test_services_are_not_queried_again_at_once_after_nats_refused_it(
    services: Services, activity: ActivityLog
) -> None:
    services.fails = Forbidden("no")
    for second in range(3):
        await activity.query("me", AT + timedelta(seconds=second * 10))
    assert services.queries == 1
    assert len(activity.report().series.spooled) == 3


async def test_the_log_keeps_an_hour_and_reports_missed_points_as_unknown(
    activity: ActivityLog,
) -> None:
    for index in (0, 1, 4):
        await activity.query("me", AT + timedelta(seconds=index * 10))
    report = activity.report()
    assert report.since == AT
    assert report.series.spooled == [2, 2, None, None, 2]
    for index in range(5, 500):
        await activity.query("me", AT + timedelta(seconds=index * 10))
    report = activity.report()
    assert len(report.series.spooled) == log.MAX_POINTS == 360
    assert report.since == AT + timedelta(seconds=1400)
    # After a pause of hours, no earlier point lies within the last hour.
    await activity.query("me", AT + timedelta(hours=9))
    assert activity.report().series.spooled == [*[None] * 359, 2]


async def test_a_clock_that_was_set_back_leaves_one_entry_for_each_time(
    activity: ActivityLog,
) -> None:
    for index in (0, 5, 6, 2):
        await activity.query("me", AT + timedelta(seconds=index * 10))
    assert activity.report().series.spooled == [2, None, 2]


def test_processes_report_the_values_of_their_metrics() -> None:
    own, of_ingest = gateway_activity().gateway, ingest_activity().ingest
    assert own is not None
    assert of_ingest is not None
    histogram = of_ingest.announced_seconds
    assert len(histogram.counts) == len(histogram.bounds) + 1 > 10
    assert histogram.bounds == sorted(histogram.bounds)


async def test_the_activity_requires_a_key_that_may_read(gateway: FakeGateway) -> None:
    path = "/v1/admin/activity"
    assert (await gateway.http.get(path)).status_code == 401
    assert (await gateway.http.get(path, headers=bearer(INGEST_KEY))).status_code == 403
    response = await gateway.http.get(path, headers=bearer(READ_KEY))
    report = msgspec.json.decode(response.content, type=ActivityReport)
    assert (report.at, report.latest.webhooks, report.series.stored) == (None, None, [])

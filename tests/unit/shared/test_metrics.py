"""Metrics: deprecated names, the port, and the labels of requests to PostHog."""

from __future__ import annotations

import socket

import httpx
import pytest
from prometheus_client import REGISTRY, Counter, generate_latest
from structlog.testing import capture_logs

from hogsend.service import metrics
from hogsend.service.http import NOT_POSTHOG, _area
from services.gateway import request_timeouts
from services.ingest import metrics as ingest

RENAMED = [
    (ingest.NAKS, "hogsend_ingest_nak_total", "hogsend_ingest_given_back_total"),
    (ingest.UNDELIVERABLE, "hogsend_ingest_undeliverable_total", "hogsend_ingest_parked_total"),
    (
        request_timeouts.REQUEST_TIMEOUTS,
        "hogsend_request_timeouts_total",
        "hogsend_slow_requests_total",
    ),
]


@pytest.mark.parametrize(("counter", "name", "deprecated"), RENAMED)
def test_a_renamed_counter_is_also_exposed_under_its_deprecated_name(
    counter: Counter, name: str, deprecated: str
) -> None:
    counter.inc(3)
    lines = generate_latest().decode().splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert float(values[name]) >= 3
    assert values[deprecated] == values[name]
    assert any(line.startswith(f"# HELP {deprecated} DEPRECATED, use {name}.") for line in lines)
    assert f"# TYPE {deprecated} counter" in lines


def test_a_service_continues_without_metrics_when_their_port_is_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, capture_logs() as logs:
        metrics.serve("127.0.0.1", listener.getsockname()[1])
    assert [line["event"] for line in logs] == ["metrics are not served"]


def test_no_metric_has_a_created_series() -> None:
    metrics.RPC_SECONDS.labels("invented", "invented").observe(1)
    assert "_created" not in generate_latest(REGISTRY).decode()


@pytest.mark.parametrize(
    ("url", "area"),
    [
        ("https://eu.posthog.com/oauth/token/", "oauth"),
        ("https://eu.posthog.com/api/projects/7/persons/?distinct_id=u", "persons"),
        ("https://eu.posthog.com/api/environments/7/hog_functions/0a/", "hog_functions"),
        ("https://eu.i.posthog.com/i/v0/e/", "capture"),
        ("https://eu.i.posthog.com/batch/", "capture"),
        ("https://eu.i.posthog.com/flags/?v=2", "flags"),
        ("https://elsewhere.example.com/u_42", None),
    ],
)
def test_requests_to_posthog_are_labelled_by_area_and_other_requests_are_not_counted(
    url: str, area: str | None
) -> None:
    assert _area(httpx.Request("GET", url)) == area
    # The operator's webhook and other instances of PostHog can have any path.
    assert _area(httpx.Request("GET", url, extensions=NOT_POSTHOG)) is None

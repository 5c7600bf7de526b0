"""Metrics that were renamed are exposed under both names."""

from __future__ import annotations

import pytest
from prometheus_client import Counter, generate_latest

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
def test_a_renamed_counter_is_exposed_under_its_deprecated_name_too(
    counter: Counter, name: str, deprecated: str
) -> None:
    counter.inc(3)
    lines = generate_latest().decode().splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert float(values[name]) >= 3
    assert values[deprecated] == values[name]
    assert any(line.startswith(f"# HELP {deprecated} DEPRECATED, use {name}.") for line in lines)
    assert f"# TYPE {deprecated} counter" in lines

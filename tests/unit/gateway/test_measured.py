"""Gauges of capabilities, of Hogsend's destination in PostHog, and of the spool's disk."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from hogsend.contract.capabilities import ANALYTICS_CAPABILITIES, Capabilities, Capability
from hogsend.contract.errors import Forbidden, HogsendError, TooLarge, Unavailable
from hogsend.contract.provisioning import PROVISIONER_DIAGNOSE, Diagnosis
from services.gateway.capabilities import OF_ANALYTICS, ORDER
from services.gateway.health import measured
from tests.unit.gateway.fakes import FakeConnection
from tests.virtual_time import on_virtual_time

HEALTHY: dict[str, Any] = {
    "privateHost": "https://eu.posthog.com",
    "credential": {"state": "present"},
    "personReads": {"state": "working", "through": "oauth"},
    "webhookSecret": {"state": "present", "source": "minted"},
    "destination": {"state": "degraded"},
    "scopeGap": [],
    "publicUrl": {"url": "https://t.example.com", "loopback": False},
    "provisioning": {"state": "possible"},
}
DIAGNOSIS = msgspec.convert(HEALTHY, Diagnosis)


STATES = (
    *("live", "degraded", "disabled", "disabled_by_posthog"),
    *("drifted", "elsewhere", "missing", "unknown"),
)


class EndError(Exception):
    """Ends a loop that otherwise never ends."""


def states_of(gauge: Any) -> dict[str, str]:
    """Return the current state of each capability of a gauge."""
    return {
        sample.labels.get("capability", ""): sample.labels["state"]
        for sample in next(iter(gauge.collect())).samples
        if sample.value
    }


async def test_the_gauges_have_the_reported_states_and_unknown_without_a_reply() -> None:
    bus = FakeConnection()
    rows = [Capability(name=name, state="on", reason="It works.") for name in OF_ANALYTICS]
    bus.reply_with(ANALYTICS_CAPABILITIES, Capabilities(rows))
    bus.reply_with(PROVISIONER_DIAGNOSE, DIAGNOSIS)
    await measured.check_capabilities(bus, secret_missing=False, signatures_required=False)
    assert states_of(measured.CAPABILITY)["personReads"] == "on"
    assert states_of(measured.DESTINATION) == {"": "degraded"}

    bus.replies.clear()
    await measured.check_capabilities(bus, secret_missing=False, signatures_required=False)
    assert states_of(measured.CAPABILITY) == dict.fromkeys(ORDER, "unknown")
    assert states_of(measured.DESTINATION) == {"": "unknown"}


async def test_a_destination_that_stopped_delivering_sets_the_stopped_gauge() -> None:
    bus = FakeConnection()
    # While the state is unknown, the gauge keeps its value, so that an alert continues.
    for stopped in (True, None):
        destination = {"state": "missing", "stopped": stopped}
        bus.reply_with(
            PROVISIONER_DIAGNOSE,
            msgspec.convert({**HEALTHY, "destination": destination}, Diagnosis),
        )
        await measured.check_capabilities(bus, secret_missing=False, signatures_required=False)
        assert measured.STOPPED._value.get() == 1
    bus.reply_with(PROVISIONER_DIAGNOSE, DIAGNOSIS)
    await measured.check_capabilities(bus, secret_missing=False, signatures_required=False)
    assert measured.STOPPED._value.get() == 0


@pytest.mark.parametrize(
    "error", [Unavailable("not running"), Forbidden("not permitted"), TooLarge("too large")]
)
@on_virtual_time
async def test_the_gauges_become_unknown_when_the_states_can_no_longer_be_queried(
    error: HogsendError,
) -> None:
    bus = FakeConnection()
    bus.reply_with(PROVISIONER_DIAGNOSE, DIAGNOSIS)
    await measured.check_capabilities(bus, secret_missing=False, signatures_required=False)
    assert states_of(measured.DESTINATION) == {"": "degraded"}
    bus.reply_with(PROVISIONER_DIAGNOSE, error)
    secret: Any = SimpleNamespace(missing=False)
    checking = asyncio.create_task(
        measured.keep_checking_capabilities(bus, secret, signatures_required=False)
    )
    await asyncio.sleep(measured.CAPABILITIES_SECONDS)
    assert states_of(measured.DESTINATION) == {"": "unknown"}
    assert states_of(measured.CAPABILITY) == dict.fromkeys(ORDER, "unknown")
    bus.reply_with(PROVISIONER_DIAGNOSE, DIAGNOSIS)
    await asyncio.sleep(measured.CAPABILITIES_SECONDS)
    assert states_of(measured.DESTINATION) == {"": "degraded"}
    checking.cancel()


@on_virtual_time
async def test_capabilities_are_checked_once_in_five_minutes() -> None:
    """Each check sends PostHog requests, which count to its limits."""
    bus = FakeConnection()
    bus.reply_with(PROVISIONER_DIAGNOSE, DIAGNOSIS)
    secret: Any = SimpleNamespace(missing=False)
    checking = asyncio.create_task(
        measured.keep_checking_capabilities(bus, secret, signatures_required=False)
    )
    for minute in range(30):
        await asyncio.sleep(60)
        checks = sum(request.subject == PROVISIONER_DIAGNOSE.subject for request in bus.sent)
        assert checks == 1 + minute // 5
    checking.cancel()


def test_the_disk_is_measured_before_the_spool_directory_exists(tmp_path: Path) -> None:
    measured.measure_disk(tmp_path / "not" / "yet")
    assert measured.DISK._value.get() >= measured.DISK_FREE._value.get() > 0


async def test_a_disk_that_cannot_be_measured_is_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes = [OSError("I/O error"), OSError("I/O error"), None, OSError("I/O error"), EndError()]

    def measure(_directory: Path) -> None:
        if (outcome := outcomes.pop(0)) is not None:
            raise outcome

    monkeypatch.setattr(measured, "measure_disk", measure)
    monkeypatch.setattr(measured, "DISK_SECONDS", 0)
    with capture_logs() as logs, pytest.raises(EndError):
        await measured.keep_measuring_disk(tmp_path)
    assert [line["log_level"] for line in logs] == ["warning", "debug", "warning"]


@pytest.mark.parametrize("state", STATES)
def test_every_state_that_an_alert_uses_exists(state: str) -> None:
    assert state in measured.DESTINATION_STATES

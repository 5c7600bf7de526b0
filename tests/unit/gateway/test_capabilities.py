"""Capabilities that the gateway derives from the provisioner's diagnosis."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from hogsend.contract.capabilities import Capability
from hogsend.contract.errors import Forbidden
from hogsend.contract.provisioning import PROVISIONER_DIAGNOSE, Diagnosis, ProvisioningFinding
from services.gateway import capabilities, webhook_findings
from tests.unit.gateway.fakes import FakeConnection
from tests.unit.gateway.test_measured import DIAGNOSIS


def diagnosis(
    *,
    has_secret: bool = True,
    signed: bool | None = True,
    ahead: float = 0,
    **destination: Any,
) -> Diagnosis:
    """Return the provisioner's reply. The gateway's clock is `ahead` seconds ahead of PostHog's."""
    return msgspec.structs.replace(
        DIAGNOSIS,
        webhook_secret=msgspec.structs.replace(
            DIAGNOSIS.webhook_secret,
            state="present" if has_secret else "absent",
            detail="Everybody can post events.",
        ),
        destination=msgspec.structs.replace(
            DIAGNOSIS.destination, **{"state": "live", "signed": signed} | destination
        ),
        posthog_now=datetime.now(UTC) - timedelta(seconds=ahead),
    )


async def events_in(
    *,
    has_secret: bool = True,
    signed: bool | None = True,
    secret_missing: bool = False,
    signatures_required: bool = False,
    ahead: float = 0,
    **destination: Any,
) -> Capability:
    """Return the capability `eventsIn`. The destination is live unless overridden."""
    reply = diagnosis(has_secret=has_secret, signed=signed, ahead=ahead, **destination)
    bus = FakeConnection()
    bus.reply_with(PROVISIONER_DIAGNOSE, reply)
    report, _ = await capabilities.query(
        bus, secret_missing=secret_missing, signatures_required=signatures_required
    )
    (events_in,) = (each for each in report.capabilities if each.name == "eventsIn")
    return events_in


@pytest.mark.parametrize(
    ("signed", "words"), [(True, ", signed"), (False, ", not signed"), (None, "")]
)
async def test_events_in_reports_whether_deliveries_are_signed(
    signed: bool | None, words: str
) -> None:
    capability = await events_in(signed=signed)
    assert (capability.state, capability.reason) == ("on", f"PostHog delivers here{words}.")


async def test_events_in_is_off_for_a_changed_destination_only_if_it_stopped_delivering() -> None:
    capability = await events_in(state="drifted", detail="It was changed.")
    assert (capability.state, capability.reason) == (
        "on",
        "PostHog delivers here, signed. It was changed.",
    )
    capability = await events_in(state="drifted", detail="It was changed.", stopped=True)
    assert (capability.state, capability.reason) == ("off", "It was changed.")
    assert (await events_in(state="missing")).state == "off"


async def test_events_in_is_off_when_required_signatures_are_missing() -> None:
    assert (await events_in(signed=True, signatures_required=True)).state == "on"
    capability = await events_in(signed=False, signatures_required=True)
    assert capability.state == "off"
    assert capability.reason.endswith("So every delivery is refused.")


@pytest.mark.parametrize(
    ("ahead", "reason"),
    [
        (600, "The gateway's clock is 10 minutes ahead of PostHog's. So every delivery is refused"),
        (-172_800, "2,880 minutes behind PostHog's. So every delivery is refused"),
    ],
)
async def test_events_in_is_off_when_the_clock_invalidates_every_signature(
    ahead: float, reason: str
) -> None:
    capability = await events_in(ahead=ahead)
    assert capability.state == "off"
    assert reason in capability.reason
    assert "NTP" in (capability.remediation or "")
    # The gateway does not check the time of an unsigned delivery.
    assert (await events_in(ahead=ahead, signed=False)).state == "on"


async def test_a_clock_difference_within_the_validity_of_signatures_is_only_reported() -> None:
    assert (await events_in(ahead=-250)).state == "on"
    finding = webhook_findings.signatures_finding(
        diagnosis(signed=True, ahead=-250), required=False
    )
    assert finding.state == "signed"
    assert (finding.detail or "").startswith("The gateway's clock is 4 minutes behind PostHog's. B")
    finding = webhook_findings.signatures_finding(diagnosis(signed=True, ahead=10), required=False)
    assert (finding.state, finding.detail) == ("signed", None)


async def test_events_in_is_off_when_the_gateway_refuses_webhooks_without_a_secret() -> None:
    capability = await events_in(has_secret=False, secret_missing=True)
    assert capability.state == "off"
    assert capability.reason == "There is no webhook secret, so every webhook is answered 503."
    assert (await events_in(has_secret=False)).reason == "Everybody can post events."


async def test_capabilities_are_unknown_when_nats_refuses_the_requests() -> None:
    bus = FakeConnection()
    bus.reply_with(PROVISIONER_DIAGNOSE, Forbidden("no permission"))
    report, _ = await capabilities.query(bus, secret_missing=False, signatures_required=False)
    assert {capability.state for capability in report.capabilities} == {"unknown"}
    of_analytics, of_provisioner = report.capabilities[0], report.capabilities[-1]
    assert of_analytics.reason == "The analytics service is not running."
    assert of_provisioner.reason == "No permission."
    assert "deploy/nats" in (of_provisioner.remediation or "")


async def test_refused_provisioning_is_off_with_the_findings_reason_and_remediation() -> None:
    finding = ProvisioningFinding(
        state="refused", code="missing-scope", detail="A scope is missing.", remediation="Grant it."
    )
    bus = FakeConnection()
    bus.reply_with(PROVISIONER_DIAGNOSE, msgspec.structs.replace(DIAGNOSIS, provisioning=finding))
    report, _ = await capabilities.query(bus, secret_missing=False, signatures_required=False)
    assert report.capabilities[-1] == Capability(
        name="loopProvisioning", state="off", reason="A scope is missing.", remediation="Grant it."
    )

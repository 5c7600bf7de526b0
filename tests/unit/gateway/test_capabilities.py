"""What the gateway says of capabilities that it derives from the diagnosis."""

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
    """What the provisioner answers.

    The gateway's clock is so many seconds `ahead` of PostHog's.
    """
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
    """The capability, with a destination that is live unless `destination` tells otherwise."""
    found = diagnosis(has_secret=has_secret, signed=signed, ahead=ahead, **destination)
    bus = FakeConnection()
    bus.reply_with(PROVISIONER_DIAGNOSE, found)
    known, _ = await capabilities.query(
        bus, secret_missing=secret_missing, signatures_required=signatures_required
    )
    (one,) = (one for one in known.capabilities if one.name == "eventsIn")
    return one


@pytest.mark.parametrize(
    ("signed", "words"), [(True, ", signed"), (False, ", not signed"), (None, "")]
)
async def test_deliveries_are_called_signed_only_if_they_are(
    signed: bool | None, words: str
) -> None:
    found = await events_in(signed=signed)
    assert (found.state, found.reason) == ("on", f"PostHog delivers here{words}.")


async def test_a_destination_that_was_changed_is_off_only_where_it_delivers_no_more() -> None:
    found = await events_in(state="drifted", detail="It was changed.")
    assert (found.state, found.reason) == ("on", "PostHog delivers here, signed. It was changed.")
    found = await events_in(state="drifted", detail="It was changed.", stopped=True)
    assert (found.state, found.reason) == ("off", "It was changed.")
    assert (await events_in(state="missing")).state == "off"


async def test_deliveries_that_are_refused_without_a_signature_are_no_events_in() -> None:
    assert (await events_in(signed=True, signatures_required=True)).state == "on"
    found = await events_in(signed=False, signatures_required=True)
    assert found.state == "off"
    assert found.reason.endswith("So every delivery is refused.")


@pytest.mark.parametrize(
    ("ahead", "says"),
    [
        (600, "The gateway's clock is 10 minutes ahead of PostHog's. So every delivery is refused"),
        (-172_800, "2,880 minutes behind PostHog's. So every delivery is refused"),
    ],
)
async def test_a_clock_by_which_no_signature_is_valid_lets_no_events_in(
    ahead: float, says: str
) -> None:
    found = await events_in(ahead=ahead)
    assert found.state == "off"
    assert says in found.reason
    assert "NTP" in (found.remediation or "")
    # No time is looked at in what is not signed.
    assert (await events_in(ahead=ahead, signed=False)).state == "on"


async def test_a_clock_that_differs_less_than_signatures_are_valid_is_only_told() -> None:
    assert (await events_in(ahead=-250)).state == "on"
    found = webhook_findings.signatures_finding(diagnosis(signed=True, ahead=-250), required=False)
    assert found.state == "signed"
    assert (found.detail or "").startswith("The gateway's clock is 4 minutes behind PostHog's. B")
    found = webhook_findings.signatures_finding(diagnosis(signed=True, ahead=10), required=False)
    assert (found.state, found.detail) == ("signed", None)


async def test_a_gateway_that_is_closed_without_a_secret_is_not_called_open() -> None:
    found = await events_in(has_secret=False, secret_missing=True)
    assert found.state == "off"
    assert found.reason == "There is no webhook secret, so every webhook is answered 503."
    assert (await events_in(has_secret=False)).reason == "Everybody can post events."


async def test_what_may_not_be_asked_is_not_known() -> None:
    bus = FakeConnection()
    bus.reply_with(PROVISIONER_DIAGNOSE, Forbidden("no permission"))
    known, _ = await capabilities.query(bus, secret_missing=False, signatures_required=False)
    assert {one.state for one in known.capabilities} == {"unknown"}
    of_analytics, of_provisioner = known.capabilities[0], known.capabilities[-1]
    assert of_analytics.reason == "The analytics service is not running."
    assert of_provisioner.reason == "No permission."
    assert "deploy/nats" in (of_provisioner.remediation or "")


async def test_provisioning_that_would_be_refused_says_why_in_words() -> None:
    finding = ProvisioningFinding(
        state="refused", code="missing-scope", detail="A scope is missing.", remediation="Grant it."
    )
    bus = FakeConnection()
    bus.reply_with(PROVISIONER_DIAGNOSE, msgspec.structs.replace(DIAGNOSIS, provisioning=finding))
    known, _ = await capabilities.query(bus, secret_missing=False, signatures_required=False)
    assert known.capabilities[-1] == Capability(
        name="loopProvisioning", state="off", reason="A scope is missing.", remediation="Grant it."
    )

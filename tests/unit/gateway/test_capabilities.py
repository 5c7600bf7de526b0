"""What the gateway says of capabilities that it derives from the diagnosis."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hogsend.contract.capabilities import Capability
from hogsend.contract.errors import Forbidden
from hogsend.contract.provisioning import PROVISIONER_DIAGNOSE, ProvisioningFinding
from services.gateway import capabilities
from tests.unit.gateway.fakes import FakeConnection
from tests.unit.gateway.test_measured import DIAGNOSIS


async def events_in(
    *,
    has_secret: bool = True,
    signed: bool | None = True,
    secret_missing: bool = False,
    signatures_required: bool = False,
    **destination: Any,
) -> Capability:
    """The capability, with a destination that is live unless `destination` tells otherwise."""
    found: Any = msgspec.structs.replace(
        DIAGNOSIS,
        webhook_secret=msgspec.structs.replace(
            DIAGNOSIS.webhook_secret,
            state="present" if has_secret else "absent",
            detail="Everybody can post events.",
        ),
        destination=msgspec.structs.replace(
            DIAGNOSIS.destination, **{"state": "live", "signed": signed} | destination
        ),
    )
    bus = FakeConnection()
    bus.answer(PROVISIONER_DIAGNOSE, found)
    known, _ = await capabilities.known(
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


async def test_a_gateway_that_is_closed_without_a_secret_is_not_called_open() -> None:
    found = await events_in(has_secret=False, secret_missing=True)
    assert found.state == "off"
    assert found.reason == "There is no webhook secret, so every webhook is answered 503."
    assert (await events_in(has_secret=False)).reason == "Everybody can post events."


async def test_what_may_not_be_asked_is_not_known() -> None:
    bus = FakeConnection()
    bus.answer(PROVISIONER_DIAGNOSE, Forbidden("no permission"))
    known, _ = await capabilities.known(bus, secret_missing=False, signatures_required=False)
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
    bus.answer(PROVISIONER_DIAGNOSE, msgspec.structs.replace(DIAGNOSIS, provisioning=finding))
    known, _ = await capabilities.known(bus, secret_missing=False, signatures_required=False)
    assert known.capabilities[-1] == Capability(
        name="loopProvisioning", state="off", reason="A scope is missing.", remediation="Grant it."
    )

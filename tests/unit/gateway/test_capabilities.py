"""What the gateway says of capabilities that it derives from the diagnosis."""

from __future__ import annotations

import msgspec
import pytest

from hogsend.contract.provisioning import PROVISIONER_DIAGNOSE
from services.gateway import capabilities
from tests.unit.gateway.fakes import FakeConnection
from tests.unit.gateway.test_measured import DIAGNOSIS


@pytest.mark.parametrize(("signed", "words"), [(True, "signed"), (False, "not signed")])
async def test_deliveries_are_called_signed_only_if_they_are(signed: bool, words: str) -> None:
    secret = msgspec.structs.replace(DIAGNOSIS.webhook_secret, state="present")
    destination = msgspec.structs.replace(DIAGNOSIS.destination, state="live", signed=signed)
    bus = FakeConnection()
    bus.answer(
        PROVISIONER_DIAGNOSE,
        msgspec.structs.replace(DIAGNOSIS, webhook_secret=secret, destination=destination),
    )
    found, _ = await capabilities.known(bus)
    (events_in,) = (one for one in found.capabilities if one.name == "eventsIn")
    assert (events_in.state, events_in.reason) == ("on", f"PostHog delivers here, {words}.")

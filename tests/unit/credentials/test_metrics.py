"""The gauges report the state of the grant without unsealing it at every measurement."""

from __future__ import annotations

from unittest.mock import Mock

import pytest

from hogsend.contract.credentials import DerivedPayload
from services.credentials.metrics import EXPIRY, STATE, CredentialGauges
from tests.unit.credentials.conftest import Driver

STATES = ("present", "unreadable", "absent", "needs_reconnect", "refresh_failing")


def state() -> list[str]:
    return [name for name in STATES if STATE.labels("posthog", name)._value.get()]


@pytest.mark.parametrize(
    ("secret", "reported"), [("test-secret", "present"), ("lost", "unreadable")]
)
async def test_a_grant_is_unsealed_once_and_not_at_every_measurement(
    driver: Driver, secret: str, reported: str
) -> None:
    sealer = Mock(wraps=driver.sealer)
    gauges = CredentialGauges(driver.store, sealer, "posthog")
    await gauges.measure()
    assert state() == ["absent"]
    assert EXPIRY.labels("posthog")._value.get() == 0
    grant = driver.grant(left=3600)
    await driver.replica(secret=secret).credentials.put_oauth("posthog", grant)
    sealer.grant.reset_mock()
    for _ in range(3):
        await gauges.measure()
    assert state() == [reported]
    assert sealer.grant.call_count == 1
    expires_at = grant.expires_at.timestamp() if reported == "present" else 0
    assert EXPIRY.labels("posthog")._value.get() == expires_at


async def test_unreadable_generated_secrets_are_reported_despite_a_readable_grant(
    driver: Driver,
) -> None:
    gauges = CredentialGauges(driver.store, driver.sealer, "posthog")
    before = driver.replica(secret="lost").credentials
    await before.put_derived("posthog", DerivedPayload(webhook_secret="minted"))
    await driver.replica().credentials.put_oauth("posthog", driver.grant(left=3600))
    await gauges.measure()
    assert state() == ["present", "unreadable"]
    await driver.replica().credentials.put_derived("posthog", DerivedPayload())
    await gauges.measure()
    assert state() == ["present"]

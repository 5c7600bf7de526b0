"""The webhook secret of deliveries: configured, generated earlier, or generated now (1.2)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from hogsend.contract.credentials import DerivedPayload
from hogsend.contract.errors import HogsendError, InvalidRequest, Unavailable
from services.provisioner.destination.errors import ProvisioningError
from services.provisioner.destination.webhook_secret import WebhookSecrets
from tests.unit.provisioner.fakes import FakeCredentials

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def credentials() -> FakeCredentials:
    return FakeCredentials()


def secrets(
    credentials: FakeCredentials, configured: str | None = None, *, minting: bool = True
) -> WebhookSecrets:
    return WebhookSecrets(credentials, configured, minting=minting)


async def refused(secrets: WebhookSecrets) -> ProvisioningError:
    """Return the error that both methods must raise."""
    with pytest.raises(ProvisioningError) as checked:
        await secrets.check()
    with pytest.raises(ProvisioningError) as obtained:
        await secrets.obtain()
    assert checked.value.refusal == obtained.value.refusal
    return obtained.value


async def test_case_42_a_configured_secret_is_neither_requested_nor_stored(
    credentials: FakeCredentials,
) -> None:
    credentials.fail_all()
    configured = secrets(credentials, "env-secret", minting=False)
    assert await configured.obtain() == configured.configured == "env-secret"
    await configured.check()
    await configured.settle()
    assert credentials.stored == []


@pytest.mark.parametrize("secret", ["pass{word}", r"pass\nword"])
async def test_a_secret_that_posthog_would_evaluate_as_a_template_is_refused(
    credentials: FakeCredentials, secret: str
) -> None:
    secrets = WebhookSecrets(credentials, secret, minting=True)
    for method in (secrets.obtain, secrets.check):
        with pytest.raises(ProvisioningError) as raised:
            await method()
        refusal = raised.value.refusal
        assert (refusal.reason, refusal.code) == ("precondition", "webhook_secret_not_plain")
        assert secret not in repr(refusal)
        assert "POSTHOG_WEBHOOK_SECRET_PREVIOUS" in (refusal.remediation or "")


async def test_a_generated_secret_is_used_again(credentials: FakeCredentials) -> None:
    credentials.store_payload(webhook_secret="generated earlier")
    for minting in (True, False):
        assert await secrets(credentials, minting=minting).obtain() == "generated earlier"
        await secrets(credentials, minting=minting).check()
    assert credentials.stored == []


async def test_case_39_a_secret_is_generated_and_stored(credentials: FakeCredentials) -> None:
    minted = await secrets(credentials).obtain()
    assert re.fullmatch(r"[0-9a-f]{64}", minted)
    assert credentials.stored == [DerivedPayload(webhook_secret=minted)]
    assert await secrets(credentials).obtain() == minted


async def test_two_generated_secrets_differ() -> None:
    assert await secrets(FakeCredentials()).obtain() != await secrets(FakeCredentials()).obtain()


async def test_generating_keeps_the_other_fields_of_the_stored_payload(
    credentials: FakeCredentials,
) -> None:
    credentials.store_payload(project_api_key="phc_kept", project_id="7")
    minted = await secrets(credentials).obtain()
    assert credentials.stored == [
        DerivedPayload(webhook_secret=minted, project_api_key="phc_kept", project_id="7")
    ]


async def test_a_check_generates_nothing(credentials: FakeCredentials) -> None:
    await secrets(credentials).check()
    assert credentials.stored == []


async def test_generating_can_be_switched_off(credentials: FakeCredentials) -> None:
    refusal = (await refused(secrets(credentials, minting=False))).refusal
    assert (refusal.reason, refusal.code) == ("precondition", "webhook_secret_missing")
    assert "POSTHOG_MINT_WEBHOOK_SECRET" in (refusal.detail or "")
    assert "POSTHOG_WEBHOOK_SECRET" in (refusal.remediation or "")
    assert credentials.stored == []


async def test_an_unreadable_secret_is_never_replaced(credentials: FakeCredentials) -> None:
    credentials.store_unreadable()
    refusal = (await refused(secrets(credentials))).refusal
    assert (refusal.reason, refusal.code) == ("precondition", "webhook_secret_missing")
    assert "BETTER_AUTH_SECRET" in (refusal.detail or "")
    for way_out in ("BETTER_AUTH_SECRET_PREVIOUS", "disconnect", "POSTHOG_WEBHOOK_SECRET"):
        assert way_out in (refusal.remediation or "")
    assert credentials.stored == []


async def test_a_generated_secret_that_cannot_be_stored_is_not_used(
    credentials: FakeCredentials,
) -> None:
    credentials.failures["store_derived"] = InvalidRequest("no")
    with pytest.raises(ProvisioningError) as raised:
        await secrets(credentials).obtain()
    refusal = raised.value.refusal
    assert refusal.code == "webhook_secret_missing"
    assert "could not be stored" in (refusal.detail or "")


@pytest.mark.parametrize("method", ["derived", "store_derived"])
async def test_a_failing_credentials_service_is_not_reported_as_a_missing_secret(
    credentials: FakeCredentials, method: str
) -> None:
    down: HogsendError = Unavailable("down")
    credentials.failures[method] = down
    with pytest.raises(Unavailable):
        await secrets(credentials).obtain()


async def test_a_rotation_keeps_the_previous_secret_for_a_day(
    credentials: FakeCredentials,
) -> None:
    credentials.store_payload(webhook_secret="first", project_id="7")
    rotating = WebhookSecrets(credentials, None, minting=True, now=lambda: NOW)
    await rotating.settle()
    assert credentials.stored == []
    second = await rotating.rotate()
    assert second != "first"
    both = DerivedPayload(webhook_secret=second, webhook_secret_previous="first", project_id="7")
    assert credentials.stored == [both]
    for _ in range(2):
        await rotating.settle()
    ending = msgspec.structs.replace(both, webhook_previous_until=NOW + timedelta(days=1))
    assert credentials.stored == [both, ending]
    third = await rotating.rotate()
    assert credentials.stored[-1] == DerivedPayload(
        webhook_secret=third, webhook_secret_previous=second, project_id="7"
    )


async def test_no_end_is_stored_while_there_is_no_previous_secret(
    credentials: FakeCredentials,
) -> None:
    await secrets(credentials).settle()
    credentials.store_unreadable()
    await secrets(credentials).settle()
    assert credentials.stored == []


async def test_a_configured_secret_cannot_be_rotated(credentials: FakeCredentials) -> None:
    with pytest.raises(ProvisioningError) as error:
        await secrets(credentials, "env-secret").rotate()
    assert error.value.refusal.code == "webhook_secret_not_rotatable"
    assert "POSTHOG_WEBHOOK_SECRET_PREVIOUS" in (error.value.refusal.remediation or "")
    assert "env-secret" not in str(error.value.refusal)
    assert credentials.stored == []

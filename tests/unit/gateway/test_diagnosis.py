"""The diagnosis: what PostHog allows, and whether the services here work with it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hogsend.contract.capabilities import ANALYTICS_CAPABILITIES, Capabilities, Capability
from hogsend.contract.credentials import WebhookSecretReply
from hogsend.contract.provisioning import PROVISIONER_DIAGNOSE, Diagnosis
from tests.unit.gateway.fakes import FakeGateway, bearer, fake_gateway
from tests.unit.gateway.test_measured import HEALTHY

ALLOWED = {**HEALTHY, "destination": {"state": "live"}}
REFUSED = {**ALLOWED, "personReads": {"state": "failing", "through": "oauth", "detail": "401"}}


async def person_reads(
    gateway: FakeGateway, diagnosis: dict[str, Any], of_analytics: Capability | None
) -> dict[str, Any]:
    gateway.bus.reply_with(PROVISIONER_DIAGNOSE, msgspec.convert(diagnosis, Diagnosis))
    if of_analytics is not None:
        gateway.bus.reply_with(ANALYTICS_CAPABILITIES, Capabilities([of_analytics]))
    response = await gateway.http.get("/v1/admin/analytics/diagnosis", headers=bearer())
    return dict(response.json()["personReads"])


async def test_persons_are_read_when_posthog_allows_it_and_analytics_can(
    gateway: FakeGateway,
) -> None:
    capability = Capability(name="personReads", state="on", reason="It works.")
    finding = await person_reads(gateway, ALLOWED, capability)
    assert (finding["state"], finding["detail"]) == ("working", None)


@pytest.mark.parametrize(
    ("capability", "state", "detail"),
    [
        (
            None,
            "unknown",
            "PostHog allows person reads. The analytics service is not running.",
        ),
        (
            Capability(name="personReads", state="off", reason="PostHog answered 401 to a read."),
            "failing",
            "PostHog allows person reads. PostHog answered 401 to a read.",
        ),
    ],
)
async def test_person_reads_that_posthog_allows_do_not_work_without_analytics(
    gateway: FakeGateway, capability: Capability | None, state: str, detail: str
) -> None:
    finding = await person_reads(gateway, ALLOWED, capability)
    assert (finding["state"], finding["detail"]) == (state, detail)
    assert "analytics" in finding["remediation"]


async def test_person_reads_that_posthog_refuses_are_reported_with_its_detail(
    gateway: FakeGateway,
) -> None:
    assert (await person_reads(gateway, REFUSED, None))["detail"] == "401"


@pytest.mark.parametrize(
    ("may_be_open", "detail"),
    [("true", "every sender can post"), ("false", "every webhook is answered 503")],
)
async def test_a_missing_secret_is_described_as_an_open_or_a_closed_route(
    may_be_open: str, detail: str
) -> None:
    absent = {"state": "absent", "source": "none", "detail": "every sender can post"}
    minted = WebhookSecretReply(state="absent", version=1)
    async with fake_gateway(secret=None, minted=minted, WEBHOOK_OPEN=may_be_open) as gateway:
        diagnosis = {**ALLOWED, "webhookSecret": absent}
        gateway.bus.reply_with(PROVISIONER_DIAGNOSE, msgspec.convert(diagnosis, Diagnosis))
        response = await gateway.http.get("/v1/admin/analytics/diagnosis", headers=bearer())
        assert detail in response.json()["webhookSecret"]["detail"]

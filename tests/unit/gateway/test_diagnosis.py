"""The diagnosis: what PostHog allows, and whether anybody here makes use of it."""

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


async def reads(
    gateway: FakeGateway, found: dict[str, Any], here: Capability | None
) -> dict[str, Any]:
    gateway.bus.reply_with(PROVISIONER_DIAGNOSE, msgspec.convert(found, Diagnosis))
    if here is not None:
        gateway.bus.reply_with(ANALYTICS_CAPABILITIES, Capabilities([here]))
    response = await gateway.http.get("/v1/admin/analytics/diagnosis", headers=bearer())
    return dict(response.json()["personReads"])


async def test_persons_are_read_when_posthog_allows_it_and_analytics_can(
    gateway: FakeGateway,
) -> None:
    here = Capability(name="personReads", state="on", reason="It works.")
    found = await reads(gateway, ALLOWED, here)
    assert (found["state"], found["detail"]) == ("working", None)


@pytest.mark.parametrize(
    ("here", "state", "detail"),
    [
        (None, "unknown", "PostHog allows person reads. The analytics service is not running."),
        (
            Capability(name="personReads", state="off", reason="PostHog answered 401 to a read."),
            "failing",
            "PostHog allows person reads. PostHog answered 401 to a read.",
        ),
    ],
)
async def test_reads_that_posthog_allows_do_not_work_without_who_reads(
    gateway: FakeGateway, here: Capability | None, state: str, detail: str
) -> None:
    found = await reads(gateway, ALLOWED, here)
    assert (found["state"], found["detail"]) == (state, detail)
    assert "analytics" in found["remediation"]


async def test_what_posthog_refuses_is_said_as_it_was(gateway: FakeGateway) -> None:
    assert (await reads(gateway, REFUSED, None))["detail"] == "401"


@pytest.mark.parametrize(
    ("may_be_open", "told"),
    [("true", "every sender can post"), ("false", "every webhook is answered 503")],
)
async def test_a_missing_secret_opens_the_route_or_closes_it(may_be_open: str, told: str) -> None:
    absent = {"state": "absent", "source": "none", "detail": "every sender can post"}
    minted = WebhookSecretReply(state="absent", version=1)
    async with fake_gateway(secret=None, minted=minted, WEBHOOK_OPEN=may_be_open) as gateway:
        found = {**ALLOWED, "webhookSecret": absent}
        gateway.bus.reply_with(PROVISIONER_DIAGNOSE, msgspec.convert(found, Diagnosis))
        response = await gateway.http.get("/v1/admin/analytics/diagnosis", headers=bearer())
        assert told in response.json()["webhookSecret"]["detail"]

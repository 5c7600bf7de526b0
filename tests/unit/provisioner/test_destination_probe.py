"""The state of this instance's destination in PostHog; the probe never writes."""

from __future__ import annotations

from typing import Any

import pytest

from hogsend.contract.provisioning import DestinationFinding
from hogsend.posthog.api import HogFunctions, Transport
from hogsend.posthog.errors import PostHogError
from services.provisioner.destination.instance_probe import InstanceProbe
from services.provisioner.destination.ownership import Ownership
from services.provisioner.destination.posthog_errors import Step
from services.provisioner.diagnosis.destination_probe import DestinationProbe
from tests.destinations import (
    OTHER_HOST,
    OTHER_SECRET,
    OTHER_URL,
    PLACEHOLDER_URL,
    SECRET,
    WEBHOOK_URL,
    compliant,
    filters,
    inputs,
)
from tests.posthog_recorder import Recorder
from tests.unit.provisioner.fakes import POSTHOG_URL, FakeInstance, http_to


@pytest.fixture
def posthog() -> Recorder:
    return Recorder(url=POSTHOG_URL)


def probe(
    posthog: Recorder, *, secret: str | None = SECRET, other: FakeInstance | None = None
) -> tuple[DestinationProbe, HogFunctions]:
    http = http_to(posthog, {OTHER_HOST: other or FakeInstance(404)})
    ownership = Ownership(WEBHOOK_URL, secret, {}, InstanceProbe(http))
    functions = HogFunctions(Transport(http, POSTHOG_URL, "pha_a"), "4242")
    return DestinationProbe(POSTHOG_URL, "4242", ownership), functions


async def finding(posthog: Recorder, **options: Any) -> DestinationFinding:
    destination_probe, functions = probe(posthog, **options)
    destination = await destination_probe.find(functions)
    assert {request.method for request in posthog.requests} == {"GET"}
    return destination


async def test_a_compliant_destination_is_live(posthog: Recorder) -> None:
    posthog.add("fn", **compliant())
    assert await finding(posthog) == DestinationFinding(
        state="live",
        hog_function_id="fn",
        webhook_url=WEBHOOK_URL,
        dashboard_url=f"{POSTHOG_URL}/project/4242/pipeline/destinations/hog-fn/configuration",
        signed=False,
        unsigned_because="unsupported",
    )


@pytest.mark.parametrize(
    ("changes", "state", "reason"),
    [
        ({"enabled": False}, "disabled", "disabled"),
        ({"inputs": inputs(secret="stale")}, "drifted", "webhook secret"),
        ({"filters": {}}, "drifted", "identified"),
        ({"inputs": inputs("https://old.example.com/v1/webhooks/posthog")}, "drifted", "URL"),
        ({"inputs": inputs(PLACEHOLDER_URL), "enabled": False}, "placeholder", "placeholder"),
        ({"inputs": inputs(OTHER_URL, OTHER_SECRET)}, "elsewhere", "another Hogsend"),
        ({"inputs": inputs("https://x.example/hook")}, "missing", "no destination"),
    ],
)
async def test_each_state_names_its_reason_and_the_command(
    posthog: Recorder, changes: dict[str, Any], state: str, reason: str
) -> None:
    posthog.add("fn", **compliant(**changes))
    destination = await finding(posthog)
    assert destination.state == state
    assert reason in (destination.detail or "")
    assert "--provision-only" in (destination.remediation or "")


@pytest.mark.parametrize(
    ("status", "state", "named", "remedy"),
    [
        ({"state": 0, "tokens": 0}, "live", None, None),
        ({"state": 1, "tokens": 10_000}, "live", None, None),
        ({"state": 2}, "degraded", "late", "by itself"),
        ({"state": 11}, "degraded", "late", "by itself"),
        ({"state": 3}, "disabled_by_posthog", "PostHog disabled", "--provision-only"),
        ({"state": 4}, "disabled_by_posthog", "PostHog disabled", "--provision-only"),
        ({"state": 12}, "disabled_by_posthog", "staff", "support"),
        ({"state": 99}, "live", None, None),
        ({"state": "3"}, "live", None, None),
        ({"state": [3]}, "live", None, None),
        ({"state": True}, "live", None, None),
        ({}, "live", None, None),
        (None, "live", None, None),
    ],
)
async def test_the_state_of_a_destination_that_posthog_degraded_is_reported(
    posthog: Recorder, status: Any, state: str, named: str | None, remedy: str | None
) -> None:
    posthog.add("fn", **{**compliant(), "status": status})
    destination = await finding(posthog)
    assert destination.state == state
    assert (named or "") in (destination.detail or "")
    assert (remedy or "") in (destination.remediation or "")
    assert (destination.detail is None) == (named is None)


@pytest.mark.parametrize("why", ["Can't use cohorts in real-time filters", "x" * 1000, None])
async def test_filters_that_posthog_cannot_run_have_stopped_a_destination(
    posthog: Recorder, why: str | None
) -> None:
    broken = {**filters(), "bytecode": None, "bytecode_error": why}
    posthog.add("fn", **compliant(filters=broken))
    destination = await finding(posthog)
    assert (destination.state, destination.stopped) == ("drifted", True)
    assert "cannot run its filters" in (destination.detail or "")
    assert (f"PostHog says: {(why or '')[:200]}" in (destination.detail or "")) == (why is not None)
    assert len(destination.detail or "") < 400
    assert "--provision-only" in (destination.remediation or "")
    # Before PostHog/posthog#102960, such filters are saved, and a run seems to succeed.
    assert ("Open the destination in PostHog" in (destination.remediation or "")) == (
        why is not None
    )


@pytest.mark.parametrize("state", [3, 12])
async def test_a_destination_that_a_user_disabled_is_not_reported_as_posthogs(
    posthog: Recorder, state: int
) -> None:
    posthog.add("fn", **{**compliant(enabled=False), "status": {"state": state}})
    assert (await finding(posthog)).state == "disabled"


async def test_a_difference_is_reported_before_a_degraded_state(posthog: Recorder) -> None:
    """PostHog does not end it by itself: deliveries fail until the difference is repaired."""
    posthog.add("fn", **{**compliant(inputs=inputs(secret="stale")), "status": {"state": 2}})
    assert (await finding(posthog)).state == "drifted"


async def test_a_live_instance_elsewhere_keeps_its_destination(posthog: Recorder) -> None:
    posthog.add("foreign", **compliant(inputs=inputs(OTHER_URL, SECRET)))
    destination = await finding(posthog, other=FakeInstance())
    assert (destination.state, destination.webhook_url) == ("elsewhere", OTHER_URL)


async def test_a_live_destination_after_others_is_found(posthog: Recorder) -> None:
    posthog.add("foreign", **compliant(inputs=inputs(OTHER_URL, OTHER_SECRET)))
    posthog.add("old", **compliant(enabled=False))
    posthog.add("works", **compliant())
    posthog.add("former", **compliant(inputs=inputs(f"{OTHER_URL}?token=x", OTHER_SECRET)))
    destination = await finding(posthog)
    assert (destination.state, destination.hog_function_id) == ("live", "works")
    assert [(other.hog_function_id, other.webhook_url) for other in destination.others] == [
        ("foreign", OTHER_URL),
        ("former", OTHER_URL),
    ]
    assert str(destination.others[1].dashboard_url).endswith("/hog-former/configuration")


async def test_further_enabled_own_destinations_are_listed(posthog: Recorder) -> None:
    posthog.add("copy", **compliant(inputs=inputs(f"{WEBHOOK_URL}?token=x", "stale")))
    posthog.add("works", **compliant())
    posthog.add("off", **compliant(enabled=False))
    posthog.add("again", **compliant())
    posthog.add("foreign", **compliant(inputs=inputs(OTHER_URL, OTHER_SECRET)))
    destination = await finding(posthog)
    assert (destination.state, destination.hog_function_id) == ("live", "works")
    assert [(other.hog_function_id, other.webhook_url) for other in destination.duplicates] == [
        ("copy", WEBHOOK_URL),
        ("again", WEBHOOK_URL),
    ]
    assert str(destination.duplicates[0].dashboard_url).endswith("/hog-copy/configuration")
    assert [other.hog_function_id for other in destination.others] == ["foreign"]


async def test_further_destinations_are_listed_when_none_is_live(posthog: Recorder) -> None:
    posthog.add("first", **compliant(inputs=inputs(secret="stale")))
    posthog.add("second", **compliant(inputs=inputs(secret="older")))
    destination = await finding(posthog)
    assert (destination.state, destination.hog_function_id) == ("drifted", "first")
    assert [other.hog_function_id for other in destination.duplicates] == ["second"]


async def test_the_own_destination_stays_live_when_others_cannot_be_read(posthog: Recorder) -> None:
    posthog.add("works", **compliant())
    posthog.add("broken", **compliant())
    posthog.refuse("GET", "/broken/", 500)
    destination_probe, functions = probe(posthog)
    with pytest.raises(PostHogError):
        await destination_probe.find(functions)
    assert destination_probe.live is not None
    assert destination_probe.live.hog_function_id == "works"


async def test_the_first_own_destination_counts_when_none_is_live(posthog: Recorder) -> None:
    posthog.add("foreign", **compliant(inputs=inputs(OTHER_URL, OTHER_SECRET)))
    posthog.add("first", **compliant(filters={}))
    posthog.add("second", **compliant(enabled=False))
    destination = await finding(posthog)
    assert (destination.state, destination.hog_function_id) == ("drifted", "first")


@pytest.mark.parametrize(
    ("changes", "stopped"),
    [
        ({"inputs": inputs(secret="stale")}, True),
        ({"inputs": inputs("https://old.example.com/v1/webhooks/posthog")}, True),
        ({"inputs": {**inputs(), "method": {"value": "PUT"}}}, True),
        ({"inputs": {**inputs(), "body": {"value": {"event": "{event}"}}}}, True),
        ({"filters": {}}, False),
        ({"inputs": inputs(secret="stale"), "enabled": False}, False),
        ({}, False),
    ],
)
async def test_only_a_difference_that_keeps_events_from_arriving_has_stopped_a_destination(
    posthog: Recorder, changes: dict[str, Any], stopped: bool
) -> None:
    posthog.add("fn", **compliant(**changes))
    assert (await finding(posthog)).stopped is stopped


async def test_the_secret_of_a_destination_is_not_compared_when_the_own_one_is_unknown(
    posthog: Recorder,
) -> None:
    posthog.add("fn", **compliant(inputs=inputs(secret="any")))
    assert (await finding(posthog, secret=None)).state == "live"


@pytest.mark.parametrize(("method", "stopped"), [("PUT", True), ("POST", None)])
async def test_only_a_stopped_destination_is_certain_while_the_secrets_are_unknown(
    posthog: Recorder, method: str, stopped: bool | None
) -> None:
    posthog.add("fn", **compliant(inputs={**inputs(), "method": {"value": method}}))
    http = http_to(posthog, {})
    ownership = Ownership(WEBHOOK_URL, None, {}, InstanceProbe(http))
    functions = HogFunctions(Transport(http, POSTHOG_URL, "pha_a"), "4242")
    destination_probe = DestinationProbe(POSTHOG_URL, "4242", ownership, secrets_known=False)
    assert (await destination_probe.find(functions)).stopped is stopped


async def test_no_finding_contains_a_secret(posthog: Recorder) -> None:
    url = "https://user:hidden@t.example.com/v1/webhooks/posthog?token=hidden"
    posthog.add("fn", **compliant(inputs=inputs(url)))
    text = str(await finding(posthog))
    for hidden in ("hidden", SECRET):
        assert hidden not in text


@pytest.mark.parametrize(
    ("path", "step"), [(r"hog_functions/\?", Step.COLLECTION), ("fn/", Step.FUNCTION)]
)
async def test_a_refusal_is_raised_with_the_step_it_came_from(
    posthog: Recorder, path: str, step: Step
) -> None:
    posthog.add("fn", **compliant())
    posthog.refuse("GET", path, 403)
    destination_probe, functions = probe(posthog)
    with pytest.raises(PostHogError):
        await destination_probe.find(functions)
    assert destination_probe.step is step

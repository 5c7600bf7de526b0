"""One run against PostHog: its requests, their order, and the results of responses (12.4)."""

from __future__ import annotations

from typing import Any

import pytest

from hogsend.contract.errors import Unavailable
from hogsend.contract.provisioning import Destination, Provisioned
from hogsend.posthog.api import Transport
from hogsend.posthog.project_choice import ProjectChoice
from services.provisioner.credentials import PinnedGrant
from services.provisioner.destination import desired
from services.provisioner.destination.desired import Desired
from services.provisioner.destination.errors import ProvisioningError
from services.provisioner.destination.instance_probe import InstanceProbe
from services.provisioner.destination.reconcile import Reconciliation
from services.provisioner.destination.signing_secret import SigningSecrets
from tests.destinations import (
    OTHER_HOST,
    OTHER_SECRET,
    OTHER_URL,
    PLACEHOLDER_URL,
    PUBLIC_URL,
    SECRET,
    WEBHOOK_URL,
    compliant,
    inputs,
)
from tests.posthog_recorder import Recorder
from tests.unit.provisioner.fakes import (
    POSTHOG_URL,
    FakeCredentials,
    FakeInstance,
    FakeStore,
    http_to,
)

PROJECT = "GET /api/projects/@current/"
COLLECTION = "/api/projects/4242/hog_functions/"
LIST = f"GET {COLLECTION}?type=destination&limit=100"
LIVE = desired.live(PUBLIC_URL, SECRET)
TWICE = {
    "Content-Type": "application/json",
    "x-posthog-webhook-secret": SECRET,
    "X-PostHog-Webhook-Secret": "old",
}
PLACEHOLDER = desired.placeholder(SECRET)


class Run:
    """Starts runs against one PostHog and one store, with other live instances."""

    def __init__(self) -> None:
        self.posthog = Recorder(url=POSTHOG_URL)
        self.store = FakeStore()
        self.instances: dict[str, FakeInstance] = {}

    async def __call__(
        self,
        desired_state: Desired = LIVE,
        *,
        project_id: str | None = None,
        host: str = POSTHOG_URL,
    ) -> Provisioned:
        http = http_to(self.posthog, self.instances)
        transport = Transport(http, host, "pha_a", secrets=[desired_state.secret])
        choice = ProjectChoice(project_id, "POSTHOG_PROJECT_ID" if project_id else "current")
        credentials = FakeCredentials()
        reconciliation = Reconciliation(
            transport,
            host,
            desired_state,
            InstanceProbe(http),
            choice,
            grant=PinnedGrant(credentials, credentials.token),
            signing_secrets=SigningSecrets(credentials, None, minting=True),
        )
        project = await reconciliation.project()
        async with self.store.lock() as lock:
            return await reconciliation.run(project.id or "", lock)

    async def refused(self, **options: Any) -> tuple[str, str]:
        """Return the code and detail of a run that must be refused."""
        with pytest.raises(ProvisioningError) as raised:
            await self(**options)
        refusal = raised.value.refusal
        assert refusal.reason == "posthog"
        assert refusal.remediation
        return refusal.code, refusal.detail or ""


@pytest.fixture
def run() -> Run:
    return Run()


async def test_case_50_without_a_secret_nothing_is_sent(run: Run) -> None:
    code, _detail = await run.refused(desired_state=desired.live(PUBLIC_URL, ""))
    assert code == "missing-webhook-secret"
    assert run.posthog.requests == []


async def test_case_51_the_requests_of_a_creation(run: Run) -> None:
    result = await run()
    assert result == Provisioned(
        action="created",
        hog_function_id="fn-1",
        webhook_url=WEBHOOK_URL,
        dashboard_url=f"{POSTHOG_URL}/project/4242/pipeline/destinations/hog-fn-1/configuration",
        enabled=True,
        signed=False,
        unsigned_because="unsupported",
    )
    assert run.posthog.lines() == [PROJECT, LIST, f"POST {COLLECTION}"]
    assert {request.headers["authorization"] for request in run.posthog.requests} == {
        "Bearer pha_a"
    }
    typed = ["content-type" in request.headers for request in run.posthog.requests]
    assert typed == [False, False, True]


async def test_case_54_a_configured_project(run: Run) -> None:
    run.posthog.project = {"id": "77"}
    await run(project_id="77")
    first, *others = run.posthog.lines()
    assert first == "GET /api/projects/77/"
    assert len(others) == 2
    assert all("/api/projects/77/" in line for line in others)


async def test_the_project_of_the_response_is_used_and_not_the_configured_id(run: Run) -> None:
    run.posthog.project = {"id": 4242}
    result = await run(project_id="my-project")
    assert "/project/4242/" in result.dashboard_url
    assert run.posthog.lines()[1] == LIST


async def test_case_55_a_compliant_destination_is_not_changed(run: Run) -> None:
    run.posthog.add("fn", **compliant())
    assert (await run()).action == "unchanged"
    assert run.posthog.lines() == [PROJECT, LIST, f"GET {COLLECTION}fn/"]


@pytest.mark.parametrize(
    "changes",
    [
        {"inputs": inputs("https://old.example.com/v1/webhooks/posthog")},
        {"inputs": inputs(secret="stale")},
        {"enabled": False},
        {"name": "Renamed by an operator", "enabled": False},
        {"inputs_schema": [{"key": key} for key in ("url", "payload", "headers")]},
        {"filters": None},
        {"inputs": {"url": {"value": WEBHOOK_URL}, "headers": {"secret": True}, "debug": None}},
        {"inputs": inputs(headers={"value": TWICE})},
    ],
    ids=["case_56", "case_57", "case_58", "case_62", "case_61", "no_filters", "odd", "twice"],
)
async def test_a_drifted_destination_is_updated_once(run: Run, changes: dict[str, Any]) -> None:
    run.posthog.add("fn", **compliant(**changes))
    result = await run()
    assert (result.action, result.hog_function_id) == ("updated", "fn")
    assert (result.enabled, result.webhook_url) == (True, WEBHOOK_URL)
    assert run.posthog.lines()[-1] == f"PATCH {COLLECTION}fn/"
    (patch,) = run.posthog.bodies("PATCH")
    assert patch["enabled"] is True
    assert patch["inputs"]["headers"]["value"]["x-posthog-webhook-secret"] == SECRET
    assert (await run()).action == "unchanged"


async def test_case_60_pages_and_the_likely_name_first(run: Run) -> None:
    run.posthog.page_size = 1
    run.posthog.add("slack", name="Slack alerts")
    run.posthog.add("loop", name="My hogsend loop", **compliant())
    assert (await run()).action == "unchanged"
    assert run.posthog.lines() == [PROJECT, LIST, f"{LIST}&offset=1", f"GET {COLLECTION}loop/"]


async def test_case_68_twice_in_a_row(run: Run) -> None:
    assert [(await run()).action, (await run()).action] == ["created", "unchanged"]
    assert len(run.posthog.bodies("POST")) == 1


async def test_case_69_a_rotated_secret(run: Run) -> None:
    secrets = ("first", "second", "second")
    actions = [(await run(desired.live(PUBLIC_URL, secret))).action for secret in secrets]
    assert actions == ["created", "updated", "unchanged"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "hog_functions", 403, "missing-scope"),
        ("GET", r"hog_functions/\?", 404, "unsupported-instance"),
        ("POST", "hog_functions/$", 404, "unsupported-instance"),
        ("GET", "@current", 500, "project-discovery-failed"),
        ("GET", "@current", 302, "project-discovery-failed"),
        ("GET", "@current", 401, "unauthorized"),
        ("GET", "@current", 403, "missing-scope"),
        ("GET", "hog_functions/fn/", 404, "api-error"),
        ("GET", "hog_functions/fn/", 500, "api-error"),
        ("PATCH", "hog_functions/fn/", 404, "api-error"),
        ("PATCH", "hog_functions/fn/", 400, "api-error"),
        ("GET", r"hog_functions/\?", 429, "api-error"),
        ("POST", "hog_functions/$", 400, "api-error"),
    ],
    ids=[
        *("case_63", "case_64_list", "case_64_creation", "case_65", "redirect", "case_66"),
        *("project_403", "read_404", "read_500", "patch_404", "patch_400", "list_429"),
        "creation_400",
    ],
)
async def test_a_refusal_has_its_code_and_the_detail_of_posthog(
    run: Run, method: str, path: str, status: int, code: str
) -> None:
    if "fn/" in path:
        run.posthog.add("fn", **compliant(enabled=False))
    run.posthog.refuse(method, path, status, {"detail": "words of PostHog"})
    refused, detail = await run.refused()
    assert refused == code
    assert str(status) in detail
    assert "redirect" in detail or "words of PostHog" in detail
    assert run.posthog.lines()[-1].startswith(method)
    assert len(run.posthog.requests) == 1 or "@current" not in path


@pytest.mark.parametrize("project", [{}, {"id": None}, {"id": ""}, {"id": True}, [], "x", None])
async def test_a_project_without_an_id_is_not_discovered(run: Run, project: Any) -> None:
    run.posthog.project = project
    assert (await run.refused())[0] == "project-discovery-failed"


@pytest.mark.parametrize("response", [{}, {"id": None}, b"", b"not json", []])
async def test_case_67_a_creation_without_an_id(run: Run, response: Any) -> None:
    run.posthog.refuse("POST", "hog_functions", 201, response)
    assert (await run.refused())[0] == "api-error"
    assert run.store.urls == {}


async def test_a_posthog_that_cannot_be_reached_is_not_discovered(run: Run) -> None:
    code, detail = await run.refused(host="https://gone.example")
    assert code == "project-discovery-failed"
    assert "cannot be reached" in detail


async def test_a_path_prefix_on_the_private_host_is_kept(run: Run) -> None:
    prefix = f"{POSTHOG_URL}/ph"
    again = {"results": [], "next": "https://x.example/ph/api/projects/1/hog_functions/?p=2"}
    run.posthog.refuse("GET", "^/ph/api/projects/@current/$", 200, {"id": 1})
    run.posthog.refuse("GET", r"^/ph/api/projects/1/hog_functions/\?type", 200, again)
    run.posthog.refuse("POST", "^/ph/api/projects/1/hog_functions/$", 201, {"id": "fn"})
    result = await run(host=prefix)
    assert result.dashboard_url.startswith(f"{prefix}/project/1/")
    assert "GET /ph/api/projects/1/hog_functions/?p=2" in run.posthog.lines()


@pytest.mark.parametrize("drifted", [True, False])
async def test_a_run_that_lost_its_lock_writes_nothing(run: Run, drifted: bool) -> None:
    if drifted:
        run.posthog.add("fn", **compliant(enabled=False))
    run.store.lock_is_lost = True
    with pytest.raises(Unavailable):
        await run()
    assert {request.method for request in run.posthog.requests} == {"GET"}
    assert run.store.urls == {}


@pytest.mark.parametrize("existing", [{}, {"fn": {}}, {"fn": {"enabled": False}}])
async def test_the_url_of_a_provisioned_destination_is_recorded(
    run: Run, existing: dict[str, Any]
) -> None:
    for id, changes in existing.items():
        run.posthog.add(id, **compliant(**changes))
    id = (await run()).hog_function_id
    assert run.store.urls == {"4242": {id: WEBHOOK_URL}}


async def test_the_destination_of_a_live_instance_is_not_changed_and_is_reported(run: Run) -> None:
    run.instances[OTHER_HOST] = FakeInstance()
    url = f"https://user:hidden@{OTHER_HOST}/v1/webhooks/posthog?token=hidden"
    run.posthog.add("foreign", **compliant(inputs=inputs(url, None)))
    result = await run()
    assert result.action == "created"
    page = result.dashboard_url.replace(result.hog_function_id, "foreign")
    assert result.other_instances == [Destination("foreign", OTHER_URL, page)]
    assert run.posthog.bodies("PATCH") == []


async def test_the_own_destination_after_another_instances_is_found(run: Run) -> None:
    run.posthog.add("foreign", **compliant(inputs=inputs(OTHER_URL, OTHER_SECRET)))
    run.posthog.add("own", **compliant())
    result = await run()
    assert (result.action, result.hog_function_id) == ("unchanged", "own")
    assert [other.hog_function_id for other in result.other_instances] == ["foreign"]


async def test_a_disabled_destination_of_a_former_instance_is_not_adopted_besides_the_own_one(
    run: Run,
) -> None:
    run.posthog.add("former", **compliant(inputs=inputs(OTHER_URL, OTHER_SECRET)))
    own = await run()
    assert [other.hog_function_id for other in own.other_instances] == ["former"]
    # As the documentation advises.
    run.posthog.functions["former"]["enabled"] = False
    again = await run()
    assert (again.action, again.hog_function_id) == ("unchanged", own.hog_function_id)
    assert run.posthog.functions["former"]["enabled"] is False


async def test_a_former_instances_destination_is_adopted_with_its_secret(run: Run) -> None:
    run.posthog.add("former", **compliant(inputs=inputs(OTHER_URL, SECRET)))
    adopted = await run()
    assert (adopted.action, adopted.hog_function_id) == ("updated", "former")
    assert adopted.other_instances == []


async def test_two_instances_do_not_take_over_each_others_destination(run: Run) -> None:
    run.instances[OTHER_HOST] = FakeInstance()
    first = await run()
    # Another instance takes over the destination, as upstream's Hogsend does.
    taken = inputs(OTHER_URL, OTHER_SECRET)
    run.posthog.functions["fn-1"]["inputs"] = taken
    second, third = await run(), await run()
    assert (first.hog_function_id, second.action) == ("fn-1", "created")
    assert (third.action, third.hog_function_id) == ("unchanged", second.hog_function_id)
    assert run.posthog.functions["fn-1"]["inputs"] == taken


async def test_the_own_destination_is_recognized_after_a_change_of_url_and_secret(run: Run) -> None:
    run.instances[OTHER_HOST] = FakeInstance()
    assert (await run(desired.live(f"https://{OTHER_HOST}", SECRET))).webhook_url == OTHER_URL
    result = await run(desired.live(PUBLIC_URL, "rotated"))
    assert (result.action, result.hog_function_id) == ("updated", "fn-1")
    assert result.webhook_url == WEBHOOK_URL
    assert run.instances[OTHER_HOST].requests == []


@pytest.mark.parametrize(
    ("changes", "enabled", "url"),
    [
        ({"inputs": inputs(OTHER_URL)}, True, OTHER_URL),
        ({"inputs": inputs(OTHER_URL, OTHER_SECRET)}, True, OTHER_URL),
        ({}, True, WEBHOOK_URL),
        ({"enabled": False}, False, WEBHOOK_URL),
        ({"inputs": inputs(PLACEHOLDER_URL, None), "enabled": False}, False, PLACEHOLDER_URL),
    ],
    ids=["live", "foreign", "own", "disabled", "placeholder"],
)
async def test_a_placeholder_never_changes_an_existing_destination(
    run: Run, changes: dict[str, Any], enabled: bool, url: str
) -> None:
    run.instances[OTHER_HOST] = FakeInstance()
    run.posthog.add("foreign", **compliant(**changes))
    result = await run(PLACEHOLDER)
    assert (result.action, result.hog_function_id) == ("unchanged", "foreign")
    assert (result.enabled, result.webhook_url) == (enabled, url)
    assert {request.method for request in run.posthog.requests} == {"GET"}
    assert run.instances[OTHER_HOST].requests == []
    assert run.store.urls == {}


async def test_a_placeholder_becomes_the_real_destination(run: Run) -> None:
    placeholder, again, real = await run(PLACEHOLDER), await run(PLACEHOLDER), await run()
    assert [placeholder.action, again.action, real.action] == ["created", "unchanged", "updated"]
    assert (placeholder.enabled, placeholder.webhook_url) == (False, PLACEHOLDER_URL)
    assert real.hog_function_id == placeholder.hog_function_id
    assert (real.enabled, real.webhook_url) == (True, WEBHOOK_URL)

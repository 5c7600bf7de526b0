"""PostHog's refusals as the contract's codes, each with a remediation (2.7)."""

from __future__ import annotations

import pytest

from hogsend.posthog.errors import PostHogError, PostHogTimeout, PostHogUnreachable
from hogsend.posthog.project_choice import ProjectChoice
from services.provisioner.destination.errors import (
    OPEN_ROUTE_REMEDY,
    missing_secret,
    precondition_failed,
)
from services.provisioner.destination.posthog_errors import (
    NO_CURRENT_REMEDY,
    Step,
    describe,
    from_posthog,
    manual_setup,
    needs_add_on,
    no_function_id,
    no_project_id,
    remedy_of,
)
from tests.destinations import WEBHOOK_URL

ADD_ON = [
    "The Data Pipelines addon is required for this template.",
    "The Data Pipelines addon is required to create custom functions. Please upgrade.",
    "Data pipelines add-on is required for enabling new destinations.",
    "data-pipelines: please upgrade your plan",
]


CURRENT = ProjectChoice(None, "current")
NO_SCOPE = "API key missing required scope 'hog_function:write'"
OTHER_PROJECT = "API key does not have access to the requested project: ID 7."


@pytest.mark.parametrize(
    ("step", "status", "code"),
    [
        (Step.PROJECT, 401, "unauthorized"),
        (Step.COLLECTION, 401, "unauthorized"),
        (Step.FUNCTION, 401, "unauthorized"),
        (Step.PROJECT, 403, "missing-scope"),
        (Step.COLLECTION, 403, "missing-scope"),
        (Step.FUNCTION, 403, "missing-scope"),
        (Step.PROJECT, 404, "project-discovery-failed"),
        (Step.PROJECT, 500, "project-discovery-failed"),
        (Step.PROJECT, 302, "project-discovery-failed"),
        (Step.PROJECT, None, "project-discovery-failed"),
        (Step.COLLECTION, 404, "unsupported-instance"),
        (Step.COLLECTION, 400, "api-error"),
        (Step.COLLECTION, 429, "api-error"),
        (Step.COLLECTION, 500, "api-error"),
        (Step.COLLECTION, None, "api-error"),
        (Step.FUNCTION, 400, "api-error"),
        (Step.FUNCTION, 404, "api-error"),
        (Step.FUNCTION, None, "api-error"),
    ],
)
def test_a_status_has_its_code_at_each_step(step: Step, status: int | None, code: str) -> None:
    refusal = from_posthog(PostHogError("said", status), step, WEBHOOK_URL, CURRENT).refusal
    assert (refusal.reason, refusal.code) == ("posthog", code)
    assert "said" in (refusal.detail or "")
    assert str(status) in (refusal.detail or "") or status is None
    assert refusal.remediation


@pytest.mark.parametrize(
    ("step", "status", "names"),
    [
        (Step.PROJECT, 401, ["hogsend connect posthog", "POSTHOG_PERSONAL_API_KEY"]),
        (
            Step.PROJECT,
            403,
            ["hog_function:write", "project:read", "person:read", "person:write", "scopes"],
        ),
        (Step.PROJECT, 404, ["POSTHOG_PROJECT_ID", "POSTHOG_HOST", "--provision-only"]),
        (Step.COLLECTION, 404, ["upgrade", "manually", WEBHOOK_URL]),
        (Step.FUNCTION, 400, ["status", "--provision-only"]),
    ],
)
def test_a_remediation_names_the_commands_and_settings(
    step: Step, status: int, names: list[str]
) -> None:
    remediation = from_posthog(
        PostHogError(NO_SCOPE, status), step, WEBHOOK_URL, CURRENT
    ).refusal.remediation
    for name in names:
        assert name in (remediation or "")


@pytest.mark.parametrize(
    ("attr", "in_posthog"),
    [
        ("filters", True),
        ("filters__non_field_errors", True),
        ("enabled", True),
        ("inputs__team_id", True),
        ("inputs__secret_headers__x-key", True),
        ("inputs__url", False),
        ("inputs__headers__x-key", False),
        ("inputs__signing_secret", False),
        ("inputs", False),
        ("template_id", False),
        (None, False),
    ],
)
def test_an_error_in_an_operators_change_is_fixed_in_posthog(
    attr: str | None, in_posthog: bool
) -> None:
    error = PostHogError("Invalid filter configuration: Cohort", 400, attr)
    refusal = from_posthog(error, Step.FUNCTION, WEBHOOK_URL, CURRENT).refusal
    assert ("Open the destination in PostHog" in (refusal.remediation or "")) == in_posthog
    assert "--provision-only" in (refusal.remediation or "")
    assert "Cohort" in (refusal.detail or "")


def test_an_error_in_an_input_that_an_operator_added_names_the_input() -> None:
    error = PostHogError("This field is required.", 400, "inputs__team_id")
    refusal = from_posthog(error, Step.FUNCTION, WEBHOOK_URL, CURRENT).refusal
    detail = "PostHog answered 400: This field is required. (the input team_id)"
    assert refusal.detail == detail


TIMEOUT = PostHogTimeout("PostHog did not answer within 4 s")
UNREACHABLE = PostHogUnreachable("PostHog cannot be reached: connection refused")
NO_ID = PostHogError("PostHog's response for the project has no id")
CAUSES = [
    # Naming the project does not help when PostHog did not respond.
    (TIMEOUT, ["did not answer in time", "Nothing has to be set"], ["POSTHOG_PROJECT_ID"]),
    (UNREACHABLE, ["POSTHOG_HOST", "DNS", "firewall"], ["POSTHOG_PROJECT_ID", "scope"]),
    (PostHogError("x", 401), ["hogsend connect posthog"], ["POSTHOG_PROJECT_ID"]),
    (PostHogError(NO_SCOPE, 403), ["hog_function:write"], ["POSTHOG_PROJECT_ID"]),
    (PostHogError(OTHER_PROJECT, 403), ["POSTHOG_PROJECT_ID"], ["scope"]),
    (PostHogError("x", 403), ["POSTHOG_PROJECT_ID", "hog_function:write"], []),
    (PostHogError("x", 302), ["POSTHOG_PRIVATE_HOST", "redirects"], ["POSTHOG_PROJECT_ID"]),
    (PostHogError("x", 308), ["POSTHOG_PRIVATE_HOST", "redirects"], ["POSTHOG_PROJECT_ID"]),
    (PostHogError("x", 429), ["Wait a minute"], ["POSTHOG_", "scope"]),
    (PostHogError("x", 429, retry_after=41.6), ["Wait 42 seconds"], ["POSTHOG_", "scope"]),
    (PostHogError("x", 500), ["itself failed", "Nothing has to be set"], ["POSTHOG_", "scope"]),
    (PostHogError("x", 503), ["itself failed", "status page"], ["POSTHOG_", "scope"]),
]


@pytest.mark.parametrize("step", list(Step))
@pytest.mark.parametrize(("error", "names", "not_named"), CAUSES)
def test_a_remedy_follows_its_cause_at_each_step(
    step: Step, error: PostHogError, names: list[str], not_named: list[str]
) -> None:
    remedy = from_posthog(error, step, WEBHOOK_URL, CURRENT).refusal.remediation or ""
    if step is Step.PROJECT and error.status in {500, 503}:
        assert remedy.endswith(f" {NO_CURRENT_REMEDY}")
        remedy = remedy.removesuffix(f" {NO_CURRENT_REMEDY}")
    assert remedy == remedy_of(error, CURRENT)
    assert all(name in remedy for name in names), remedy
    assert not any(name in remedy for name in not_named), remedy


@pytest.mark.parametrize("status", [500, 502, 504])
@pytest.mark.parametrize(
    ("choice", "is_named"), [(CURRENT, True), (ProjectChoice("7", "provisioned"), False)]
)
def test_case_65_a_setting_avoids_a_current_project_that_cannot_be_read(
    status: int, choice: ProjectChoice, is_named: bool
) -> None:
    error = PostHogError("x", status)
    refusal = from_posthog(error, Step.PROJECT, WEBHOOK_URL, choice).refusal
    assert refusal.code == "project-discovery-failed"
    assert ("POSTHOG_PROJECT_ID" in (refusal.remediation or "")) == is_named


@pytest.mark.parametrize("error", [PostHogError("x", 404), PostHogError("x", 400), NO_ID])
def test_an_error_whose_cause_depends_on_the_step_has_the_remedy_of_the_step(
    error: PostHogError,
) -> None:
    assert remedy_of(error, CURRENT) is None
    remedies = {
        from_posthog(error, step, WEBHOOK_URL, CURRENT).refusal.remediation for step in Step
    }
    assert len(remedies) > 1


def test_case_50_a_missing_secret_names_the_setting_and_the_command() -> None:
    refusal = missing_secret().refusal
    assert (refusal.reason, refusal.code) == ("posthog", "missing-webhook-secret")
    assert refusal.remediation == OPEN_ROUTE_REMEDY
    assert "POSTHOG_WEBHOOK_SECRET" in OPEN_ROUTE_REMEDY
    assert "--provision-only" in OPEN_ROUTE_REMEDY


def test_a_project_without_an_id_is_not_discovered() -> None:
    refusal = no_project_id().refusal
    assert (refusal.reason, refusal.code) == ("posthog", "project-discovery-failed")
    assert "POSTHOG_PROJECT_ID" in (refusal.remediation or "")


def test_case_67_a_function_without_an_id_is_an_api_error() -> None:
    refusal = no_function_id().refusal
    assert (refusal.reason, refusal.code) == ("posthog", "api-error")
    assert refusal.remediation


def test_a_failed_precondition_is_a_refusal_of_this_instance() -> None:
    error = precondition_failed("code", "detail", "remediation")
    assert str(error) == "code"
    assert error.refusal.reason == "precondition"
    assert (error.refusal.detail, error.refusal.remediation) == ("detail", "remediation")


@pytest.mark.parametrize("detail", ADD_ON)
def test_a_plan_without_data_pipelines_is_recognised(detail: str) -> None:
    error = PostHogError(detail, 400, "template_id")
    assert needs_add_on(error)
    refusal = from_posthog(error, Step.COLLECTION, WEBHOOK_URL, CURRENT).refusal
    assert refusal.code == "api-error"
    assert "plan" in (refusal.detail or "")
    assert detail in (refusal.detail or "")
    for name in (
        "data pipelines add-on",
        "manually",
        f"POST to {WEBHOOK_URL}",
        "x-posthog-webhook-secret",
        "POSTHOG_WEBHOOK_SECRET",
        '{"event":"{event}","person":"{person}"}',
    ):
        assert name in (refusal.remediation or "")


@pytest.mark.parametrize(
    ("detail", "status"),
    [
        ("No template found for id 'template-webhook'", 400),
        ("Data pipelines are slow today", 400),
        (ADD_ON[0], 402),
        (ADD_ON[0], None),
        ("", 400),
    ],
)
def test_another_refusal_is_not_reported_as_a_missing_add_on(
    detail: str, status: int | None
) -> None:
    assert not needs_add_on(PostHogError(detail, status))
    refusal = from_posthog(
        PostHogError(detail, status), Step.COLLECTION, WEBHOOK_URL, CURRENT
    ).refusal
    assert "add-on" not in (refusal.remediation or "")


@pytest.mark.parametrize(
    ("error", "description"),
    [
        (PostHogError("PostHog cannot be reached"), "PostHog cannot be reached."),
        (PostHogError("No.", 400), "PostHog answered 400: No."),
        (PostHogError("", 500), "PostHog answered 500."),
    ],
)
def test_an_error_is_described_by_status_and_detail(error: PostHogError, description: str) -> None:
    assert describe(error) == description


def test_the_manual_setup_names_the_setting_with_the_secret() -> None:
    assert "value of POSTHOG_WEBHOOK_SECRET" in manual_setup(WEBHOOK_URL)


@pytest.mark.parametrize("step", list(Step))
@pytest.mark.parametrize(
    ("status", "code"), [(403, "missing-scope"), (404, "project-discovery-failed")]
)
def test_a_project_outside_the_grant_is_reported_with_the_covered_project(
    step: Step, status: int, code: str
) -> None:
    choice = ProjectChoice("99", "POSTHOG_PROJECT_ID", ["4242"])
    refusal = from_posthog(PostHogError("said", status), step, WEBHOOK_URL, choice).refusal
    assert refusal.code == code
    assert "POSTHOG_PROJECT_ID is 99, but the grant covers project 4242." in (refusal.detail or "")
    assert "said" in (refusal.detail or "")
    assert "POSTHOG_PROJECT_ID to 4242" in (refusal.remediation or "")
    # Other statuses have another cause.
    other = from_posthog(PostHogError("said", 500), step, WEBHOOK_URL, choice).refusal
    assert "grant" not in (other.detail or "")


@pytest.mark.parametrize(
    ("choice", "names", "not_named"),
    [
        (ProjectChoice("77", "grant", ["77"]), "connect posthog` again", "POSTHOG_PROJECT_ID"),
        (ProjectChoice("77", "provisioned"), "POSTHOG_PROJECT_ID", "POSTHOG_HOST"),
        (ProjectChoice("77", "requested", ["77", "78"]), "connect posthog` again", "POSTHOG_HOST"),
        (ProjectChoice("77", "POSTHOG_PROJECT_ID"), "POSTHOG_PROJECT_ID", "connect posthog"),
    ],
)
def test_the_remedy_of_a_deleted_project_depends_on_how_it_was_chosen(
    choice: ProjectChoice, names: str, not_named: str
) -> None:
    error = PostHogError("Project not found.", 404)
    refusal = from_posthog(error, Step.PROJECT, WEBHOOK_URL, choice).refusal
    assert refusal.code == "project-discovery-failed"
    assert "Project 77 is gone or out of reach." in (refusal.detail or "")
    assert "Project not found." in (refusal.detail or "")
    assert names in (refusal.remediation or "")
    assert not_named not in (refusal.remediation or "")

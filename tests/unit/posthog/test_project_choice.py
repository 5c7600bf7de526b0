"""Which PostHog project Hogsend uses (contract C2)."""

from __future__ import annotations

import pytest

from hogsend.contract.credentials import ProvisionedProject, TokenReply
from hogsend.posthog.errors import PostHogError
from hogsend.posthog.project_choice import ProjectChoice, Source, choose_project

HOST = "https://eu.posthog.com"
STORED = ProvisionedProject("55", HOST)


def bearer(teams: list[int], stored: ProvisionedProject | None = None) -> TokenReply:
    return TokenReply(
        source="oauth", version=1, token="pha", scoped_teams=teams, provisioned_project=stored
    )


@pytest.mark.parametrize(
    ("configured", "teams", "stored", "id", "source"),
    [
        ("77", [4242], STORED, "77", "POSTHOG_PROJECT_ID"),
        (None, [4242], STORED, "4242", "grant"),
        (None, [4242], None, "4242", "grant"),
        (None, [], STORED, "55", "provisioned"),
        (None, [4242, 4242], None, "4242", "grant"),
        (None, [55, 56], STORED, "55", "provisioned"),
        (None, [], ProvisionedProject("55", f"{HOST}/"), "55", "provisioned"),
        (None, [], ProvisionedProject("55", "HTTPS://EU.PostHog.com:443/"), "55", "provisioned"),
        # A project id of another PostHog is not used.
        (None, [], ProvisionedProject("55", "http://eu.posthog.com"), None, "current"),
        (None, [], ProvisionedProject("55", f"{HOST}/posthog"), None, "current"),
        (None, [], ProvisionedProject("55", "https://eu.posthog.com:0x1"), None, "current"),
        (None, [], ProvisionedProject("55", "https://us.posthog.com"), None, "current"),
        (None, [1, 2], None, None, "current"),
        (None, [], None, None, "current"),
        ("", [], None, None, "current"),
    ],
)
def test_the_most_explicit_source_of_the_project_is_used(
    configured: str | None,
    teams: list[int],
    stored: ProvisionedProject | None,
    id: str | None,
    source: str,
) -> None:
    choice = choose_project(configured, bearer(teams, stored), HOST)
    assert (choice.id, choice.source) == (id, source)


@pytest.mark.parametrize(
    ("choice", "covered", "mismatch"),
    [
        (ProjectChoice("99", "POSTHOG_PROJECT_ID", ["1"]), False, "POSTHOG_PROJECT_ID is 99"),
        (ProjectChoice("99", "provisioned", ["1", "2"]), False, "projects 1, 2"),
        (ProjectChoice(None, "current", ["1", "2"]), False, "projects 1, 2"),
        (ProjectChoice("1", "POSTHOG_PROJECT_ID", ["1", "2"]), True, ""),
        (ProjectChoice("99", "POSTHOG_PROJECT_ID"), True, ""),
        (ProjectChoice(None, "current"), True, ""),
    ],
)
def test_a_project_outside_of_the_grant_is_named(
    choice: ProjectChoice, covered: bool, mismatch: str
) -> None:
    assert choice.is_covered is covered
    if not covered:
        assert mismatch in choice.mismatch
        assert "POSTHOG_PROJECT_ID to 1" in choice.remedy


NO_SCOPE = "API key missing required scope 'person:read'"
OTHER_PROJECT = "API key does not have access to the requested project: ID 7."


@pytest.mark.parametrize("source", ["POSTHOG_PROJECT_ID", "grant", "provisioned", "current"])
@pytest.mark.parametrize("detail", [OTHER_PROJECT, "You don't have access to the project."])
def test_the_remedy_for_a_refused_project_is_to_configure_another(
    source: Source, detail: str
) -> None:
    choice = ProjectChoice(None if source == "current" else "7", source)
    assert "POSTHOG_PROJECT_ID" in str(choice.refusal_remedy(PostHogError(detail, 403)))
    assert choice.refusal_remedy(PostHogError(detail, 404)) is None


def test_a_refusal_of_the_current_project_has_a_remedy_unless_it_names_a_scope() -> None:
    current, named = ProjectChoice(None, "current"), ProjectChoice("7", "POSTHOG_PROJECT_ID")
    assert "opened last" in str(current.refusal_remedy(PostHogError("no", 403)))
    assert named.refusal_remedy(PostHogError("no", 403)) is None
    for choice in (current, named):
        assert choice.refusal_remedy(PostHogError(NO_SCOPE, 403)) is None

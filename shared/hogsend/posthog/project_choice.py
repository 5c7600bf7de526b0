"""Chooses the PostHog project, and explains a project that the grant does not cover (C2).

PostHog's `@current` is the project that the user opened last in the browser, so it is the last
resort.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Literal

import msgspec

from hogsend.contract.credentials import TokenReply
from hogsend.posthog.errors import PostHogError
from hogsend.posthog.hosts import same_host

DENIED = frozenset({403, 404})
"""Statuses of PostHog's responses for a project that the bearer token has no access to."""

_PROJECT_DETAIL = re.compile(r"access to the (requested )?project", re.IGNORECASE)
_SCOPE_DETAIL = re.compile(r"scope", re.IGNORECASE)
"""Match the cause of a 403 in PostHog's `detail` (posthog/permissions.py)."""

Source = Literal["POSTHOG_PROJECT_ID", "grant", "requested", "provisioned", "current"]


class ProjectChoice(msgspec.Struct, frozen=True):
    """The chosen project and the source of the choice, with messages about problems."""

    id: str | None
    """None means PostHog's `@current`."""
    source: Source
    covered: list[str] = []
    """Projects that the grant is restricted to; empty without a restriction."""

    @property
    def is_covered(self) -> bool:
        """Whether the grant's restriction, if any, includes the project."""
        return not self.covered or self.id in self.covered

    @property
    def mismatch(self) -> str:
        """The problem of a project that is not covered, in one sentence."""
        projects = _listed(self.covered)
        if self.id is None:
            return f"The grant covers {projects}, and PostHog's current project may be another one."
        chosen = {
            "POSTHOG_PROJECT_ID": f"POSTHOG_PROJECT_ID is {self.id}",
            "provisioned": f"The destination was provisioned in project {self.id}",
        }.get(self.source, f"The project is {self.id}")
        return f"{chosen}, but the grant covers {projects}."

    @property
    def remedy(self) -> str:
        """How to solve a mismatch."""
        project = self.id if self.id is not None else "that is meant"
        return (
            f"Set POSTHOG_PROJECT_ID to {' or '.join(self.covered)}, or run "
            f"`hogsend connect posthog` again and choose the project {project}."
        )

    @property
    def missing(self) -> str:
        """The problem of a project that PostHog does not find, in one sentence."""
        return f"Project {self.id} is gone or out of reach."

    @property
    def missing_remedy(self) -> str:
        """How to choose another project than a missing one; depends on the source of the choice."""
        match self.source:
            case "POSTHOG_PROJECT_ID":
                return (
                    "Set POSTHOG_PROJECT_ID to the id in your PostHog project's URL, and check "
                    "POSTHOG_HOST and POSTHOG_PRIVATE_HOST."
                )
            case "grant":
                return "Run `hogsend connect posthog` again and choose another project."
        return (
            "Run `hogsend connect posthog` again and choose another project, or set "
            "POSTHOG_PROJECT_ID to its id."
        )

    def refusal_remedy(self, error: PostHogError, scope_remedy: str = "") -> str | None:
        """How to solve a refusal whose cause is, or may be, the project; None for another cause.

        Args:
            error: the refusal.
            scope_remedy: how to solve a missing scope. It is appended if PostHog's response leaves
                open whether the project or a scope is the cause.
        """
        if error.status != HTTPStatus.FORBIDDEN:
            return None
        is_about_project = _PROJECT_DETAIL.search(error.detail) is not None
        if self.source == "current" and not _SCOPE_DETAIL.search(error.detail):
            choose = (
                "Set POSTHOG_PROJECT_ID to the id in your PostHog project's URL: while it is "
                "unset, it is the project that was opened last in PostHog, which the credential "
                "may not reach."
            )
            return choose if is_about_project else f"{choose} {scope_remedy}".rstrip()
        if not is_about_project:
            return None
        return (
            "The credential does not reach the project: set POSTHOG_PROJECT_ID to the id of one "
            "that it reaches, or run `hogsend connect posthog` again and choose it; for a personal "
            "API key, edit its projects in PostHog."
        )


def choose_project(
    configured: str | None, bearer: TokenReply, host: str, requested: str | None = None
) -> ProjectChoice:
    """Choose the project for requests to `host`.

    Args:
        configured: `POSTHOG_PROJECT_ID`.
        bearer: the token of the requests, with the grant's projects and the provisioned one.
        host: private host without a trailing slash. A provisioned project belongs to one host.
        requested: the project that the operator chose for this request.
    """
    covered = list(dict.fromkeys(str(project) for project in bearer.scoped_teams))
    stored = bearer.provisioned_project
    if configured:
        return ProjectChoice(configured, "POSTHOG_PROJECT_ID", covered)
    if len(covered) == 1:
        return ProjectChoice(covered[0], "grant", covered)
    if requested is not None:
        return ProjectChoice(requested, "requested", covered)
    if stored is not None and same_host(stored.private_host, host):
        return ProjectChoice(stored.id, "provisioned", covered)
    return ProjectChoice(None, "current", covered)


def _listed(projects: list[str]) -> str:
    return f"project{'s' if len(projects) > 1 else ''} {', '.join(projects)}"

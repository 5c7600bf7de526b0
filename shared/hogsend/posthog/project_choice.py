"""Which PostHog project is used, and what to say when it is not one the grant covers (C2).

`@current` is the project that the user last opened in PostHog's pages, so it is asked only when
nothing else says which project is meant.
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
"""Statuses with which PostHog answers for a project that a bearer does not reach."""

_OF_THE_PROJECT = re.compile(r"access to the (requested )?project", re.IGNORECASE)
_OF_A_SCOPE = re.compile(r"scope", re.IGNORECASE)
"""What a 403 is about, in PostHog's words (posthog/permissions.py)."""

Source = Literal["POSTHOG_PROJECT_ID", "grant", "asked", "provisioned", "current"]


class ProjectChoice(msgspec.Struct, frozen=True):
    """A project, and why it is this one."""

    id: str | None
    """None leaves it to PostHog, which then means `@current`."""
    source: Source
    covered: list[str] = []
    """Projects the grant is restricted to; empty for a grant that is not."""

    @property
    def is_covered(self) -> bool:
        """Whether the grant reaches it, as far as the grant says."""
        return not self.covered or self.id in self.covered

    @property
    def mismatch(self) -> str:
        """What differs, in one sentence; only for a choice that is not covered."""
        projects = _listed(self.covered)
        if self.id is None:
            return f"The grant covers {projects}, and PostHog's current project may be another one."
        named = {
            "POSTHOG_PROJECT_ID": f"POSTHOG_PROJECT_ID is {self.id}",
            "provisioned": f"The destination was provisioned in project {self.id}",
        }.get(self.source, f"The project is {self.id}")
        return f"{named}, but the grant covers {projects}."

    @property
    def remedy(self) -> str:
        """What to do about a mismatch."""
        wanted = self.id if self.id is not None else "that is meant"
        return (
            f"Set POSTHOG_PROJECT_ID to {' or '.join(self.covered)}, or run "
            f"`hogsend connect posthog` again and choose the project {wanted}."
        )

    @property
    def gone(self) -> str:
        """What it means that PostHog does not find it, in one sentence."""
        return f"Project {self.id} is gone or out of reach."

    @property
    def when_gone(self) -> str:
        """What to do then: what decided for it decides for another one."""
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

    def when_refused(self, error: PostHogError, else_scopes: str = "") -> str | None:
        """What to do about a refusal that is of the project, or may be; None for another one.

        Args:
            error: the refusal.
            else_scopes: what to do if it is of a scope after all, where PostHog does not say.
        """
        if error.status != HTTPStatus.FORBIDDEN:
            return None
        is_of_the_project = _OF_THE_PROJECT.search(error.detail) is not None
        if self.source == "current" and not _OF_A_SCOPE.search(error.detail):
            to_choose = (
                "Set POSTHOG_PROJECT_ID to the id in your PostHog project's URL: while it is "
                "unset, it is the project that was opened last in PostHog, which the credential "
                "may not reach."
            )
            return to_choose if is_of_the_project else f"{to_choose} {else_scopes}".rstrip()
        if not is_of_the_project:
            return None
        return (
            "The credential does not reach the project: set POSTHOG_PROJECT_ID to the id of one "
            "that it reaches, or run `hogsend connect posthog` again and choose it; for a personal "
            "API key, edit its projects in PostHog."
        )


def choose_project(
    configured: str | None, bearer: TokenReply, host: str, asked: str | None = None
) -> ProjectChoice:
    """Choose the project for requests to `host`.

    Args:
        configured: `POSTHOG_PROJECT_ID`.
        bearer: what the requests will carry; it knows the grant's projects and the stored one.
        host: private host without a trailing slash. A stored project belongs to one host.
        asked: the project an operator chose for this request, among those of the grant.
    """
    covered = list(dict.fromkeys(str(project) for project in bearer.scoped_teams))
    stored = bearer.provisioned_project
    if configured:
        return ProjectChoice(configured, "POSTHOG_PROJECT_ID", covered)
    if len(covered) == 1:
        return ProjectChoice(covered[0], "grant", covered)
    if asked is not None:
        return ProjectChoice(asked, "asked", covered)
    if stored is not None and same_host(stored.private_host, host):
        return ProjectChoice(stored.id, "provisioned", covered)
    return ProjectChoice(None, "current", covered)


def _listed(projects: list[str]) -> str:
    return f"project{'s' if len(projects) > 1 else ''} {', '.join(projects)}"

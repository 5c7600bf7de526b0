"""Which PostHog project is used, and what to say when it is not one the grant covers (C2).

`@current` is whatever project somebody last opened in PostHog's pages, so it is asked only when
nothing else says which project is meant.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from hogsend.contract.credentials import TokenReply
from hogsend.posthog.hosts import same_host

DENIED = frozenset({403, 404})
"""Statuses with which PostHog answers for a project that a bearer does not reach."""

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

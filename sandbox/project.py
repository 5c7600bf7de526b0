"""The one project there is, in the one organization."""

from __future__ import annotations

import msgspec

from sandbox.options import ORGANIZATION_ID, Options


class Project(msgspec.Struct, frozen=True):
    """A project as the API shows it (posthog/api/project.py); here team and project are one."""

    id: int
    uuid: str
    organization: str
    project_id: int
    name: str
    api_token: str
    timezone: str = "UTC"
    is_demo: bool = False


def project_of(options: Options) -> Project:
    """The sandbox's project."""
    return Project(
        id=options.project_id,
        uuid=f"0190a000-0000-7000-8000-{options.project_id:012x}",
        organization=ORGANIZATION_ID,
        project_id=options.project_id,
        name="Sandbox",
        api_token=options.project_key,
    )

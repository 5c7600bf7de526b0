"""The sandbox's single project, in its single organization."""

from __future__ import annotations

import msgspec

from sandbox.options import ORGANIZATION_ID, Options


class Project(msgspec.Struct, frozen=True):
    """A project in the API's format (posthog/api/project.py). In the sandbox it has one team."""

    id: int
    uuid: str
    organization: str
    project_id: int
    name: str
    api_token: str
    timezone: str = "UTC"
    is_demo: bool = False


def project_of(options: Options) -> Project:
    """Create the sandbox's project."""
    return Project(
        id=options.project_id,
        uuid=f"0190a000-0000-7000-8000-{options.project_id:012x}",
        organization=ORGANIZATION_ID,
        project_id=options.project_id,
        name="Sandbox",
        api_token=options.project_key,
    )

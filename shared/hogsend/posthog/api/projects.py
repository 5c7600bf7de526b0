"""`/api/projects/`: reads projects that a bearer token has access to."""

from __future__ import annotations

from urllib.parse import quote

import msgspec

from hogsend.posthog.api.reading import identifier, mapping, sequence
from hogsend.posthog.api.transport import REQUEST_SECONDS, Transport


class Project(msgspec.Struct, frozen=True):
    """The fields of a project that Hogsend uses."""

    id: str | None
    """None if PostHog's response has none."""
    api_token: str | None
    """Project API key (`phc_…`), with which events are captured."""
    name: str | None = None

    def __repr__(self) -> str:
        """Hide the key."""
        return f"Project(id={self.id!r})"


class Projects:
    """The projects that a bearer token has access to."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def get(self, project_id: str | None, *, seconds: float = REQUEST_SECONDS) -> Project:
        """Read one project; with None as `project_id` PostHog's current project of the user.

        Raises:
            PostHogError: PostHog refused or could not be reached.
        """
        name = quote(project_id, safe="") if project_id else "@current"
        return _project(await self._transport.get(f"/api/projects/{name}/", seconds=seconds))

    async def visible(self) -> list[Project]:
        """Read the first hundred projects that the bearer token has access to.

        Raises:
            PostHogError: PostHog refused or could not be reached.
        """
        page = mapping(await self._transport.get("/api/projects/?limit=100"))
        return [_project(item) for item in sequence(page.get("results"))]


def _project(value: object) -> Project:
    project = mapping(value)
    token, name = project.get("api_token"), project.get("name")
    return Project(
        id=identifier(project.get("id")),
        api_token=token if isinstance(token, str) and token else None,
        name=name if isinstance(name, str) and name else None,
    )

"""`/api/projects/`: which project a bearer belongs to, and which it can see."""

from __future__ import annotations

from urllib.parse import quote

import msgspec

from hogsend.posthog.api.reading import identifier, mapping
from hogsend.posthog.api.transport import REQUEST_SECONDS, Transport


class Project(msgspec.Struct, frozen=True):
    """The fields Hogsend reads of a project."""

    id: str | None
    """None when PostHog's answer has none."""
    api_token: str | None
    """Project API key (`phc_…`), with which events are captured."""
    name: str | None = None

    def __repr__(self) -> str:
        """Name the project only."""
        return f"Project(id={self.id!r})"


class Projects:
    """Projects a bearer can see."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def get(self, project_id: str | None, *, seconds: float = REQUEST_SECONDS) -> Project:
        """Read one project; the bearer's current one when `project_id` is None.

        Raises:
            PostHogError: PostHog refused or could not be reached.
        """
        name = quote(project_id, safe="") if project_id else "@current"
        return _project(await self._transport.get(f"/api/projects/{name}/", seconds=seconds))

    async def visible(self) -> list[Project]:
        """Read the first hundred.

        Raises:
            PostHogError: PostHog refused or could not be reached.
        """
        found = mapping(await self._transport.get("/api/projects/?limit=100"))
        results = found.get("results")
        return [_project(one) for one in results] if isinstance(results, list) else []


def _project(answer: object) -> Project:
    found = mapping(answer)
    token, name = found.get("api_token"), found.get("name")
    return Project(
        id=identifier(found.get("id")),
        api_token=token if isinstance(token, str) and token else None,
        name=name if isinstance(name, str) and name else None,
    )

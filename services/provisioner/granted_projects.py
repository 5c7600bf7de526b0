"""The projects that a grant covers, with their names in PostHog: the operator chooses one."""

from __future__ import annotations

import asyncio

import httpx
import structlog

from hogsend.contract.provisioning import GrantedProject, GrantedProjects
from hogsend.posthog.api import PostHogError, Projects, Transport
from hogsend.service import metrics
from services.provisioner.credentials import Credentials
from services.provisioner.destination.provisioning import Instance

log = structlog.get_logger(__name__)

SECONDS = 6.0
"""All requests to PostHog together: the operator can choose without names."""
MOST_ASKED = 20
"""Projects of a grant that PostHog is asked about; the others are numbers."""


class ProjectNames:
    """Asks PostHog what projects are called."""

    def __init__(
        self, instance: Instance, credentials: Credentials, http: httpx.AsyncClient
    ) -> None:
        self._instance = instance
        self._credentials = credentials
        self._http = http

    async def granted(self) -> GrantedProjects:
        """List the grant's projects, or all that it sees if it is not limited to some.

        What PostHog does not say has no name, and is no error.

        Raises:
            Unavailable: the credentials service is down.
        """
        bearer = await self._credentials.bearer()
        ids = list(dict.fromkeys(str(team) for team in bearer.scoped_teams))
        names: dict[str, str | None] = {}
        host = self._instance.private_host
        if bearer.token and host:
            projects = Projects(Transport(self._http, host, bearer.token))
            try:
                async with asyncio.timeout(SECONDS):
                    names = await (_named(projects, ids) if ids else _all(projects))
            except (PostHogError, TimeoutError) as error:
                metrics.FAILURES.labels("projects", type(error).__name__).inc()
                log.warning("names of projects are not known", reason=str(error))
        return GrantedProjects(
            [GrantedProject(id=id, name=names.get(id)) for id in ids or list(names)]
        )


async def _named(projects: Projects, ids: list[str]) -> dict[str, str | None]:
    async def named(id: str) -> str | None:
        try:
            return (await projects.get(id)).name
        except PostHogError as error:
            # One that is gone hides no other.
            metrics.FAILURES.labels("projects", type(error).__name__).inc()
            log.debug("the name of a project is not known", project=id, reason=str(error))
            return None

    asked = ids[:MOST_ASKED]
    return dict(zip(asked, await asyncio.gather(*map(named, asked)), strict=True))


async def _all(projects: Projects) -> dict[str, str | None]:
    return {
        project.id: project.name for project in await projects.visible() if project.id is not None
    }

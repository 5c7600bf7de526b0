"""Lists the projects that a grant covers, with their names in PostHog, for an operator's choice."""

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

DEADLINE_SECONDS = 6.0
"""Time limit of all requests to PostHog together. After it, projects are listed without names."""
MAX_NAMED = 20
"""Limit of projects whose names are requested; the others are listed by id only."""


class ProjectNames:
    """Reads the names of projects from PostHog."""

    def __init__(
        self, instance: Instance, credentials: Credentials, http: httpx.AsyncClient
    ) -> None:
        self._instance = instance
        self._credentials = credentials
        self._http = http

    async def granted(self) -> GrantedProjects:
        """List the grant's projects, or all visible projects if the grant is not limited to some.

        A project whose name cannot be read is listed without a name.

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
                async with asyncio.timeout(DEADLINE_SECONDS):
                    names = await (_read_names(projects, ids) if ids else _read_all(projects))
            except (PostHogError, TimeoutError) as error:
                metrics.FAILURES.labels("projects", type(error).__name__).inc()
                log.warning(
                    "names of projects are not known", reason=str(error) or type(error).__name__
                )
        return GrantedProjects(
            [GrantedProject(id=id, name=names.get(id)) for id in ids or list(names)]
        )


async def _read_names(projects: Projects, ids: list[str]) -> dict[str, str | None]:
    async def read_name(id: str) -> str | None:
        try:
            return (await projects.get(id)).name
        except PostHogError as error:
            # A deleted project must not hide the names of the others.
            metrics.FAILURES.labels("projects", type(error).__name__).inc()
            log.debug("the name of a project is not known", project=id, reason=str(error))
            return None

    ids = ids[:MAX_NAMED]
    return dict(zip(ids, await asyncio.gather(*map(read_name, ids)), strict=True))


async def _read_all(projects: Projects) -> dict[str, str | None]:
    return {
        project.id: project.name for project in await projects.visible() if project.id is not None
    }

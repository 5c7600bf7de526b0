"""Routes of the project and the user."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, get
from litestar.di import NamedDependency
from litestar.params import FromPath

from sandbox.functions.model import UserSummary
from sandbox.http.access import authorize
from sandbox.http.pagination import Page, paginate
from sandbox.instance import Instance
from sandbox.project import Project


class Organization(msgspec.Struct, frozen=True):
    """The sandbox's only organization."""

    id: str
    name: str = "Sandbox"


class Me(UserSummary, frozen=True, kw_only=True):
    """The sandbox's only user."""

    organization: Organization
    team: Project


@get(["/api/projects/{project_id:str}", "/api/environments/{project_id:str}"], sync_to_thread=False)
def get_project(
    request: Request[Any, Any, Any], instance: NamedDependency[Instance], project_id: FromPath[str]
) -> Project:
    """Return the project, by id or as `@current` (posthog/api/project.py)."""
    authorize(request, instance, "project:read", project_id)
    return instance.project


@get("/api/projects", sync_to_thread=False)
def list_projects(
    request: Request[Any, Any, Any], instance: NamedDependency[Instance]
) -> Page[Project]:
    """List the projects that the caller has access to (posthog/api/project.py)."""
    authorize(request, instance, "project:read")
    return paginate(request, instance.options.url, [instance.project])


@get("/api/users/@me", sync_to_thread=False)
def get_me(request: Request[Any, Any, Any], instance: NamedDependency[Instance]) -> Me:
    """Return the user (posthog/api/user.py)."""
    authorize(request, instance, "user:read")
    return Me(organization=Organization(instance.project.organization), team=instance.project)

"""Authentication and authorization (posthog/auth.py, `APIScopePermission` in permissions.py)."""

from __future__ import annotations

import hmac
import re
from typing import Any

import msgspec
from litestar import Request

from sandbox.errors import authentication_failed, not_found, permission_denied, unauthenticated
from sandbox.instance import Instance
from sandbox.oauth.scopes import allows
from sandbox.options import ORGANIZATION_ID

_BEARER = re.compile(r"Bearer\s+(\S.+)")


class Caller(msgspec.Struct, frozen=True):
    """The scopes, projects and organizations that a credential has access to."""

    scopes: tuple[str, ...]
    teams: tuple[int, ...] = ()
    organizations: tuple[str, ...] = ()


def authorize(
    request: Request[Any, Any, Any], instance: Instance, scope: str, project: str = "@current"
) -> None:
    """Check the credential, its projects and scopes, and the project in the path.

    Raises:
        ApiError: 401, 403 or 404, in this order.
    """
    caller = _caller(request, instance)
    project_id = instance.project.id
    if caller.teams and project_id not in caller.teams:
        raise permission_denied(
            f"API key does not have access to the requested project: ID {project_id}."
        )
    if caller.organizations and ORGANIZATION_ID not in caller.organizations:
        raise permission_denied(
            f"API key does not have access to the requested organization: ID {ORGANIZATION_ID}."
        )
    if not allows(caller.scopes, scope):
        raise permission_denied(f"API key missing required scope '{scope}'")
    if project not in ("@current", str(project_id)):
        raise not_found("Project not found.")


def _caller(request: Request[Any, Any, Any], instance: Instance) -> Caller:
    match = _BEARER.fullmatch(request.headers.get("Authorization", ""))
    if match is None:
        raise unauthenticated()
    token = match.group(1).strip()
    if token.startswith("pha_"):
        return _oauth_caller(token, instance)
    if not hmac.compare_digest(token.encode(), instance.options.personal_key.encode()):
        raise authentication_failed(
            "Personal API key found in request Authorization header is invalid."
        )
    return Caller(instance.options.personal_key_scopes)


def _oauth_caller(token: str, instance: Instance) -> Caller:
    access = instance.grants.access(token)
    if access is None:
        raise authentication_failed("Invalid access token.")
    if access.expires <= instance.clock.now():
        raise authentication_failed("Access token has expired.")
    reach = access.reach
    if not reach.scopes:
        raise permission_denied("OAuth token has no scopes and cannot access this resource")
    return Caller(reach.scopes, reach.teams, reach.organizations)

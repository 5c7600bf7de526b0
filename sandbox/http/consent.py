"""The page on which the user allows or denies a client."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader

from sandbox.oauth.authorization import AuthorizationRequest
from sandbox.oauth.redirects import origin
from sandbox.oauth.scopes import describe
from sandbox.project import Project

_TEMPLATES = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)


def page(request: AuthorizationRequest, request_id: str, project: Project) -> str:
    """Render the page, which loads nothing from other hosts."""
    return _TEMPLATES.get_template("consent.html").render(
        client=request.client,
        request_id=request_id,
        project=project,
        scopes=[(scope, describe(scope)) for scope in request.scopes],
        limited=request.is_for_one_project,
        destination=origin(request.redirect_uri),
    )


def page_headers(request: AuthorizationRequest) -> dict[str, str]:
    """Security headers of the page.

    `form-action` includes the redirect URI, because browsers apply it to the form's redirect as
    well.
    """
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'; "
        f"form-action 'self' {origin(request.redirect_uri)}"
    )
    return {
        "Content-Security-Policy": policy,
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Frame-Options": "DENY",
    }

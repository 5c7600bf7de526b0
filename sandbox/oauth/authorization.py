"""Validates authorization requests, and stores them until the user allows or denies them.

The order of the checks and the error codes are those of `validate_authorization_request` in
oauthlib's code grant.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

import msgspec

from sandbox.oauth.documents import Client, Documents, InvalidDocument, TooManyClients
from sandbox.oauth.errors import OAuthError, RedirectedError
from sandbox.oauth.grants import Grants, Reach
from sandbox.oauth.redirects import is_allowed, with_parameters
from sandbox.oauth.scopes import grantable
from sandbox.options import ORGANIZATION_ID

CHALLENGE_LENGTHS = range(43, 129)
ONE_PROJECT = ("project", "team")
"""Values of `required_access_level` for one project: as documented, and as on the consent page."""


class AuthorizationRequest(msgspec.Struct, frozen=True):
    """A valid request that the user can allow or deny."""

    client: Client
    redirect_uri: str
    scopes: tuple[str, ...]
    challenge: str
    state: str
    nonce: str | None
    level: str
    """Restriction of the grant: one of `ONE_PROJECT`, `organization`, or anything else for none."""

    @property
    def is_for_one_project(self) -> bool:
        """Whether the user chooses one project."""
        return self.level in ONE_PROJECT


class Authorizations:
    """Requests that are waiting for the user's decision."""

    def __init__(self, documents: Documents, grants: Grants) -> None:
        self._documents = documents
        self._grants = grants
        self._pending: dict[str, AuthorizationRequest] = {}

    async def read(self, query: Mapping[str, str]) -> AuthorizationRequest:
        """Validate a request.

        Raises:
            RedirectedError: the request is invalid; a redirect reports it to the client.
            OAuthError: client or redirect URI is invalid, so only the user sees the error.
        """
        client = await self._client(query.get("client_id", ""))
        redirect_uri = query.get("redirect_uri") or client.default_redirect_uri
        if redirect_uri is None:
            raise OAuthError("invalid_request", "Missing redirect URI.")
        if not is_allowed(redirect_uri, client.redirect_uris):
            raise OAuthError("invalid_request", "Mismatching redirect URI.")
        if problem := _problem(query):
            raise RedirectedError(redirect_uri, *problem)
        return AuthorizationRequest(
            client=client,
            redirect_uri=redirect_uri,
            scopes=grantable(query.get("scope", "")),
            challenge=query["code_challenge"],
            state=query.get("state", ""),
            nonce=query.get("nonce"),
            level=query.get("required_access_level", ""),
        )

    def remember(self, request: AuthorizationRequest) -> str:
        """Store a request until the user decides, and return its id for the consent form."""
        id = secrets.token_urlsafe(16)
        self._pending[id] = request
        return id

    def take(self, id: str) -> AuthorizationRequest:
        """Remove a stored request and return it.

        Raises:
            OAuthError: the id is unknown, or was used before.
        """
        request = self._pending.pop(id, None)
        if request is None:
            raise OAuthError("invalid_request", "This page was used before; start again.")
        return request

    def allow(self, request: AuthorizationRequest, project_id: int) -> str:
        """Issue a code and return the URL to redirect to."""
        reach = Reach(
            client_id=request.client.client_id,
            scopes=request.scopes,
            teams=(project_id,) if request.is_for_one_project else (),
            organizations=(ORGANIZATION_ID,) if request.level == "organization" else (),
        )
        code = self._grants.issue_code(
            reach, request.redirect_uri, request.challenge, request.nonce
        )
        return _redirect_url(request.redirect_uri, request.state, code=code)

    def deny(self, request: AuthorizationRequest) -> str:
        """Return the URL to redirect to without a code."""
        return _redirect_url(request.redirect_uri, request.state, error="access_denied")

    async def _client(self, client_id: str) -> Client:
        if not client_id:
            raise OAuthError("invalid_request", "Missing client_id parameter.")
        try:
            return await self._documents.client(client_id)
        except InvalidDocument as error:
            raise OAuthError("invalid_request", f"Invalid client_id: {error}.") from error
        except TooManyClients as error:
            raise OAuthError("invalid_client", "Too many new clients; try again later.") from error


def refusal(query: Mapping[str, str], error: RedirectedError) -> str:
    """Return the URL to redirect to after a `RedirectedError`."""
    body = error.body
    described = {"error_description": body.error_description} if body.error_description else {}
    return _redirect_url(error.redirect_uri, query.get("state", ""), error=body.error, **described)


def _redirect_url(redirect_uri: str, state: str, **parameters: str) -> str:
    return with_parameters(redirect_uri, parameters | ({"state": state} if state else {}))


def _problem(query: Mapping[str, str]) -> tuple[str, str] | None:
    response_type = query.get("response_type")
    if not response_type:
        return "invalid_request", "Missing response_type parameter."
    if response_type != "code":
        return "unsupported_response_type", ""
    challenge = query.get("code_challenge")
    if not challenge:
        return "invalid_request", "Code challenge required."
    if query.get("code_challenge_method") != "S256" or len(challenge) not in CHALLENGE_LENGTHS:
        # A constraint of PostHog's database forbids `plain`.
        return "invalid_request", "Transform algorithm not supported."
    if query.get("prompt") == "none":
        return "consent_required", ""
    return None

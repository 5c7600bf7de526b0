"""Queries PostHog's events for a backfill, and translates its refusals for operators."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import httpx

from hogsend.contract.credentials import TokenReply
from hogsend.contract.provisioning import Refusal
from hogsend.posthog.api import PostHogError, Projects, Queries, Transport
from hogsend.posthog.errors import PostHogTimeout, PostHogUnreachable
from hogsend.posthog.project_choice import DENIED, ProjectChoice, choose_project
from services.provisioner.credentials import Credentials
from services.provisioner.destination.errors import NO_CREDENTIAL, NOT_CONFIGURED
from services.provisioner.destination.posthog_errors import DISCOVERY_REMEDY, FORBIDDEN, describe
from services.provisioner.destination.provisioning import Instance

SCOPE_REMEDY = (
    "The credential lacks the scope query:read. Run `hogsend connect posthog` again and grant it; "
    "for a personal API key, edit its scopes in PostHog. Then run `hogsend backfill` again: it "
    "continues where it ended."
)
CREDENTIAL_REMEDY = (
    "Run `hogsend connect posthog`, or set POSTHOG_PERSONAL_API_KEY to a key with query:read."
)
AGAIN_REMEDY = "See whether PostHog works, then run `hogsend backfill` again."
IN_PARTS_REMEDY = (
    "It is too much for PostHog at once: bring it in parts, with --since, --until and --event."
)
QUERY_TOO_HEAVY = frozenset({504, 512, 513})
"""HTTP statuses of PostHog for a query that took too long, would take too long, or ran out of
memory (posthog/exceptions.py)."""
READS_TOO_MUCH = frozenset({"too_many_bytes", "too_many_rows", "too_many_rows_or_bytes"})
"""Error codes of PostHog's 400 for a query that would read more than it may (posthog/errors.py)."""
PROJECT_CHANGED = "project_changed"
UNAUTHORIZED = 401
TOO_MANY = 429

Result = TypeVar("Result")


class Refused(Exception):
    """PostHog's events cannot be read until an operator acts; `refusal` is the reason."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.code)
        self.refusal = refusal


class PostHogEvents:
    """Queries PostHog with the current bearer."""

    def __init__(
        self, instance: Instance, credentials: Credentials, http: httpx.AsyncClient
    ) -> None:
        self._instance = instance
        self._credentials = credentials
        self._http = http

    async def query(
        self, call: Callable[[Queries], Awaitable[Result]], project: str | None = None
    ) -> Result:
        """Call the project's query API; a bearer that PostHog rejects is replaced once.

        Args:
            call: a call of the query API.
            project: address of the required project, as in `Queries.project`; None for any.

        Raises:
            Refused: there is no credential, its scopes do not suffice, or it is for another
                project.
            PostHogError: PostHog fails, limits requests, or cannot be reached, or the stored grant
                is not refreshed yet. A later call may succeed.
            Unavailable: the credentials service is down.
        """
        host = self._instance.private_host
        bearer = used = await self._credentials.bearer()
        if not bearer.token:
            raise _without_bearer(bearer)
        if host is None:
            raise _precondition(NOT_CONFIGURED, "No PostHog is configured.", "Set POSTHOG_HOST.")
        choice = choose_project(self._instance.project_id, bearer, host)

        async def attempt(token: str) -> Result:
            transport = Transport(self._http, host, token)
            return await call(await _queries(transport, choice, project))

        try:
            try:
                return await attempt(bearer.token)
            except PostHogError as error:
                if error.status != UNAUTHORIZED or bearer.source != "oauth":
                    raise
            used = await self._credentials.replace_bearer(bearer.token)
            return await attempt(used.token or bearer.token)
        except PostHogError as error:
            refusal = _refusal(error, choice)
            if refusal is None:
                raise
            if used.not_refreshed:
                raise _not_refreshed_yet(used.not_refreshed) from error
            raise Refused(refusal) from error


async def _queries(transport: Transport, choice: ProjectChoice, required: str | None) -> Queries:
    id = choice.id or (await Projects(transport).get(None)).id
    if id is None:
        raise Refused(_posthog_refusal("project-discovery-failed", "", DISCOVERY_REMEDY))
    queries = Queries(transport, id)
    if required is not None and required != queries.project:
        raise _project_changed(required, queries.project)
    return queries


def _project_changed(required: str, connected: str) -> Refused:
    return _precondition(
        PROJECT_CHANGED,
        f"It reads {required}, and {connected} is connected now.",
        "Run `hogsend backfill` again for the project that is connected now. Once the other one is "
        "connected again, the same command resumes this backfill.",
    )


def _without_bearer(bearer: TokenReply) -> PostHogError | Refused:
    if bearer.not_refreshed:
        return _not_refreshed_yet(bearer.not_refreshed)
    return _precondition(NO_CREDENTIAL, "There is no credential for PostHog.", CREDENTIAL_REMEDY)


def _not_refreshed_yet(reason: str) -> PostHogError:
    return PostHogError(f"the token for PostHog is not refreshed yet: {reason}")


def _refusal(error: PostHogError, choice: ProjectChoice) -> Refusal | None:
    if error.status in DENIED and not choice.is_covered:
        detail = f"{choice.mismatch} {describe(error)}"
        return _posthog_refusal("missing-scope", detail, choice.remedy)
    return permanent_refusal(error, choice)


def is_too_heavy(error: PostHogError) -> bool:
    """Whether the query is too expensive for PostHog; a query for less time may succeed."""
    return (
        isinstance(error, PostHogTimeout)
        or error.status in QUERY_TOO_HEAVY
        or (error.code or "").lower() in READS_TOO_MUCH
    )


def permanent_refusal(error: PostHogError, choice: ProjectChoice) -> Refusal | None:
    """Translate an error that an operator has to fix; None for an error that may pass by itself."""
    if isinstance(error, PostHogUnreachable) or error.status in {None, TOO_MANY}:
        return None
    if httpx.codes.is_server_error(error.status or 0) or is_too_heavy(error):
        return None
    if error.status == UNAUTHORIZED:
        return _posthog_refusal("unauthorized", describe(error), CREDENTIAL_REMEDY)
    if error.status == FORBIDDEN:
        remedy = choice.refusal_remedy(error, f"Or: {SCOPE_REMEDY}") or SCOPE_REMEDY
        return _posthog_refusal("missing-scope", describe(error), remedy)
    if error.status == httpx.codes.NOT_FOUND and choice.id is not None:
        # The project is missing, not the query API: every PostHog with destinations has that API.
        detail = f"{choice.missing} {describe(error)}"
        return _posthog_refusal("project-discovery-failed", detail, choice.missing_remedy)
    return _posthog_refusal("api-error", describe(error), AGAIN_REMEDY)


def _posthog_refusal(code: str, detail: str, remediation: str) -> Refusal:
    return Refusal(reason="posthog", code=code, detail=detail or None, remediation=remediation)


def _precondition(code: str, detail: str, remediation: str) -> Refused:
    return Refused(
        Refusal(reason="precondition", code=code, detail=detail, remediation=remediation)
    )

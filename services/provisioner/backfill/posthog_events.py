"""PostHog's events for a backfill: through which credential, and what its refusals mean."""

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
from services.provisioner.destination.errors import (
    DISCOVERY_REMEDY,
    FORBIDDEN,
    NO_CREDENTIAL,
    NOT_CONFIGURED,
    describe,
)
from services.provisioner.destination.provisioning import Instance

SCOPE_REMEDY = (
    "The credential lacks the scope query:read. Run `hogsend connect posthog` again and grant it; "
    "for a personal API key, edit its scopes in PostHog. Then run `hogsend backfill` again: it "
    "goes on where it ended."
)
CREDENTIAL_REMEDY = (
    "Run `hogsend connect posthog`, or set POSTHOG_PERSONAL_API_KEY to a key with query:read."
)
AGAIN_REMEDY = "See whether PostHog works, then run `hogsend backfill` again."
IN_PARTS_REMEDY = (
    "It is too much for PostHog at once: bring it in parts, with --since, --until and --event."
)
QUERY_TOO_HEAVY = frozenset({504, 512, 513})
"""PostHog ended the query, would not begin it, or had too little memory (posthog/exceptions.py)."""
WOULD_READ_TOO_MUCH = frozenset({"too_many_bytes", "too_many_rows", "too_many_rows_or_bytes"})
"""Codes of its 400 for a query that reads more than it may (posthog/errors.py)."""
PROJECT_CHANGED = "project_changed"
UNAUTHORIZED = 401
TOO_MANY = 429

Answer = TypeVar("Answer")


class Refused(Exception):
    """PostHog's events cannot be read, and waiting does not help."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.code)
        self.refusal = refusal


class PostHogEvents:
    """Asks PostHog with whatever credential works."""

    def __init__(
        self, instance: Instance, credentials: Credentials, http: httpx.AsyncClient
    ) -> None:
        self._instance = instance
        self._credentials = credentials
        self._http = http

    async def ask(
        self, question: Callable[[Queries], Awaitable[Answer]], project: str | None = None
    ) -> Answer:
        """Ask the project's query API; a bearer that PostHog refuses is replaced once.

        Args:
            question: what to ask.
            project: address of the only project that may be asked, as `Queries.project` has it.

        Raises:
            Refused: there is no credential, or it may not do that, or it is for another project.
            PostHogError: PostHog fails, limits requests, or cannot be reached, or the stored grant
                is not refreshed yet: ask again later.
            Unavailable: the credentials service is down.
        """
        host = self._instance.private_host
        bearer = used = await self._credentials.bearer()
        if not bearer.token:
            raise _without_bearer(bearer)
        if host is None:
            raise _precondition(NOT_CONFIGURED, "No PostHog is configured.", "Set POSTHOG_HOST.")
        choice = choose_project(self._instance.project_id, bearer, host)

        async def attempt(token: str) -> Answer:
            transport = Transport(self._http, host, token)
            return await question(await _queries(transport, choice, project))

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


async def _queries(transport: Transport, choice: ProjectChoice, wanted: str | None) -> Queries:
    id = choice.id or (await Projects(transport).get(None)).id
    if id is None:
        raise Refused(_posthog("project-discovery-failed", "", DISCOVERY_REMEDY))
    queries = Queries(transport, id)
    if wanted is not None and wanted != queries.project:
        raise _another_project(wanted, queries.project)
    return queries


def _another_project(begun: str, now: str) -> Refused:
    return _precondition(
        PROJECT_CHANGED,
        f"It reads {begun}, and {now} is connected now.",
        "Run `hogsend backfill` again for the project that is connected now; where the other one "
        "is connected again, the same command goes on with this one.",
    )


def _without_bearer(bearer: TokenReply) -> PostHogError | Refused:
    if bearer.not_refreshed:
        return _not_refreshed_yet(bearer.not_refreshed)
    return _precondition(NO_CREDENTIAL, "There is no credential for PostHog.", CREDENTIAL_REMEDY)


def _not_refreshed_yet(why: str) -> PostHogError:
    return PostHogError(f"the token for PostHog is not refreshed yet: {why}")


def _refusal(error: PostHogError, choice: ProjectChoice) -> Refusal | None:
    if error.status in DENIED and not choice.is_covered:
        return _posthog("missing-scope", f"{choice.mismatch} {describe(error)}", choice.remedy)
    return lasting(error, choice)


def is_too_heavy(error: PostHogError) -> bool:
    """Whether the query is too much for PostHog, and one for less time may not be."""
    return (
        isinstance(error, PostHogTimeout)
        or error.status in QUERY_TOO_HEAVY
        or (error.code or "").lower() in WOULD_READ_TOO_MUCH
    )


def lasting(error: PostHogError, choice: ProjectChoice) -> Refusal | None:
    """What an operator has to mend before PostHog answers otherwise; None when waiting helps."""
    if isinstance(error, PostHogUnreachable) or error.status in {None, TOO_MANY}:
        return None
    if httpx.codes.is_server_error(error.status or 0) or is_too_heavy(error):
        return None
    if error.status == UNAUTHORIZED:
        return _posthog("unauthorized", describe(error), CREDENTIAL_REMEDY)
    if error.status == FORBIDDEN:
        remedy = choice.refusal_remedy(error, f"Or: {SCOPE_REMEDY}") or SCOPE_REMEDY
        return _posthog("missing-scope", describe(error), remedy)
    if error.status == httpx.codes.NOT_FOUND and choice.id is not None:
        # A PostHog that has destinations has the query API.
        said = f"{choice.missing} {describe(error)}"
        return _posthog("project-discovery-failed", said, choice.missing_remedy)
    return _posthog("api-error", describe(error), AGAIN_REMEDY)


def _posthog(code: str, detail: str, remediation: str) -> Refusal:
    return Refusal(reason="posthog", code=code, detail=detail or None, remediation=remediation)


def _precondition(code: str, detail: str, remediation: str) -> Refused:
    return Refused(
        Refusal(reason="precondition", code=code, detail=detail, remediation=remediation)
    )

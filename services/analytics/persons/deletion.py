"""Deletes an erased contact's person in PostHog; a refusal names what an operator has to do."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from hogsend.contract.errors import Unavailable
from hogsend.contract.persons import PersonDeletion
from hogsend.contract.provisioning import Refusal
from hogsend.posthog.api import PostHogError
from services.analytics.persons.reader import PersonReader

log = structlog.get_logger(__name__)

DEADLINE_SECONDS = 40.0
FORBIDDEN = 403
_REMEDIES = {
    401: "Run `hogsend connect posthog` again, or check POSTHOG_PERSONAL_API_KEY.",
    FORBIDDEN: "The credential needs person:write: run `hogsend connect posthog` again and grant "
    "it; for a personal API key, edit its scopes in PostHog.",
    404: "This PostHog has no bulk_delete for persons: upgrade it, or delete the person there.",
}
_DEFAULT_REMEDY = "See whether PostHog works, then do the same again; or delete the person there."


async def delete(persons: PersonReader, distinct_ids: Sequence[str]) -> PersonDeletion:
    """Delete a person in PostHog.

    Raises:
        Unavailable: another service did not reply, PostHog did not respond in time, or the stored
            grant has no token at the moment.
    """
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            used = await persons.delete(distinct_ids)
    except TimeoutError as error:
        raise Unavailable("PostHog did not answer in time; try again") from error
    except PostHogError as error:
        if error.status is None:
            raise Unavailable(f"PostHog cannot be reached: {error.detail}") from error
        log.warning("person not deleted in PostHog", status=error.status, detail=error.detail)
        return PersonDeletion(
            Refusal(
                reason="posthog",
                code="missing-scope" if error.status == FORBIDDEN else "api-error",
                detail=f"PostHog answered {error.status}: {error.detail}",
                remediation=_REMEDIES.get(error.status, _DEFAULT_REMEDY),
            )
        )
    if used.token is None and used.not_refreshed:
        raise Unavailable(f"PostHog has not refreshed the access token yet: {used.not_refreshed}")
    if used.token is None:
        return PersonDeletion(
            Refusal(
                reason="precondition",
                code="no_posthog_credential",
                detail="There is no credential to ask PostHog with.",
                remediation="Run `hogsend connect posthog`, or set POSTHOG_PERSONAL_API_KEY to a "
                "key with person:write.",
            )
        )
    log.info("person deleted in PostHog", distinct_ids=len(distinct_ids))
    return PersonDeletion()

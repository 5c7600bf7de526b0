"""`/api/projects/{id}/persons/`: reads and deletes persons."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from hogsend.contract.base import Properties
from hogsend.posthog.api.reading import mapping, sequence
from hogsend.posthog.api.transport import Transport
from hogsend.posthog.errors import PostHogError

CHECK_SECONDS = 5.0
UNKNOWN_ID = "hogsend-trial"
READ_SECONDS = 10.0
MAX_IDS_PER_DELETION = 1000
"""Maximum number of distinct ids that PostHog accepts in one request."""
_MAX_NAMED = 3
"""Maximum number of persons that the message of a failed deletion names."""


class BulkDeletion(msgspec.Struct, frozen=True):
    """Body of `bulk_delete`: deletes the persons that have one of these ids, and their data."""

    distinct_ids: Sequence[str]
    delete_events: bool = True
    delete_recordings: bool = True


class Persons:
    """Persons of one project."""

    def __init__(self, transport: Transport, project_id: str) -> None:
        self._transport = transport
        self._path = f"/api/projects/{quote(project_id, safe='')}/persons/"

    async def properties(self, distinct_id: str) -> Properties:
        """Read a person's properties; empty if no person has that distinct id (contract 4.1).

        Raises:
            PostHogError: PostHog refused, could not be reached, or its response has no persons.
        """
        query = urlencode({"distinct_id": distinct_id})
        body = await self._transport.get(f"{self._path}?{query}", seconds=READ_SECONDS)
        if not isinstance(body, dict):
            raise PostHogError("PostHog's answer is not a JSON object")
        persons = sequence(body.get("results"))
        return mapping(mapping(persons[0]).get("properties")) if persons else {}

    async def check_readable(self) -> None:
        """Check that persons can be read, with a request for a person that does not exist.

        It requests a distinct id, because without one PostHog would sort all persons.

        Raises:
            PostHogError: persons cannot be read. `status` distinguishes a refusal from an outage.
        """
        await self._transport.get(f"{self._path}?distinct_id={UNKNOWN_ID}", seconds=CHECK_SECONDS)

    async def delete(self, distinct_ids: Sequence[str]) -> None:
        """Delete persons with their events and recordings. Unknown ids are no error.

        PostHog deletes persons at once or soon after, and events and recordings later. Requires the
        scope `person:write`.

        Raises:
            PostHogError: PostHog refused, could not be reached, or could not delete a person. The
                deletion may be repeated.
        """
        failed: list[Any] = []
        for start in range(0, len(distinct_ids), MAX_IDS_PER_DELETION):
            deletion = BulkDeletion(distinct_ids[start : start + MAX_IDS_PER_DELETION])
            body = await self._transport.post(
                f"{self._path}bulk_delete/", deletion, seconds=READ_SECONDS
            )
            # The status is 202 even then. Before PostHog/posthog#53357 there was no body.
            failed += sequence(mapping(body).get("deletion_errors"))
        if failed:
            raise PostHogError(_not_deleted(failed), HTTPStatus.ACCEPTED)


def _not_deleted(failed: Sequence[Any]) -> str:
    """Name the persons, and the failed step, which PostHog reports since PostHog/posthog#101908."""
    names = []
    for failure in map(mapping, failed[:_MAX_NAMED]):
        uuid, step = failure.get("person_uuid") or failure.get("person_id"), failure.get("step")
        names.append(f"{uuid or 'a person'} ({step})" if step else f"{uuid or 'a person'}")
    more = len(failed) - len(names)
    return f"it could not delete {', '.join(names)}" + (f" and {more} more" if more else "")

"""`/api/projects/{id}/persons/`: reading persons, and deleting them."""

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

TRIAL_SECONDS = 5.0
UNKNOWN_ID = "hogsend-trial"
READ_SECONDS = 10.0
DELETED_AT_ONCE = 1000
"""Distinct ids that PostHog takes in one request."""
_NAMED = 3
"""Persons that are named when they could not be deleted."""


class BulkDeletion(msgspec.Struct, frozen=True):
    """Body of `bulk_delete`: persons that have one of these ids, and what belongs to them."""

    distinct_ids: Sequence[str]
    delete_events: bool = True
    delete_recordings: bool = True


class Persons:
    """Persons of one project."""

    def __init__(self, transport: Transport, project_id: str) -> None:
        self._transport = transport
        self._path = f"/api/projects/{quote(project_id, safe='')}/persons/"

    async def properties(self, distinct_id: str) -> Properties:
        """Read a person's properties; empty when no person has that id (contract 4.1).

        Raises:
            PostHogError: PostHog refused, could not be reached, or did not answer with persons.
        """
        query = urlencode({"distinct_id": distinct_id})
        answer = await self._transport.get(f"{self._path}?{query}", seconds=READ_SECONDS)
        if not isinstance(answer, dict):
            raise PostHogError("PostHog's answer is not a JSON object")
        found = sequence(answer.get("results"))
        return mapping(mapping(found[0]).get("properties")) if found else {}

    async def try_read(self) -> None:
        """Check whether persons can be read, by asking for one that does not exist.

        As any read, by distinct id: for the first of all persons, PostHog sorts them all.

        Raises:
            PostHogError: they cannot; its `status` tells a refusal from an outage.
        """
        await self._transport.get(f"{self._path}?distinct_id={UNKNOWN_ID}", seconds=TRIAL_SECONDS)

    async def delete(self, distinct_ids: Sequence[str]) -> None:
        """Delete persons with their events and recordings; unknown ids are no error.

        PostHog deletes persons at once or soon after, and events and recordings later. It needs
        `person:write`.

        Raises:
            PostHogError: PostHog refused, could not be reached, or could not delete a person;
                repeating it is harmless.
        """
        failed: list[Any] = []
        for start in range(0, len(distinct_ids), DELETED_AT_ONCE):
            wanted = BulkDeletion(distinct_ids[start : start + DELETED_AT_ONCE])
            answer = await self._transport.post(
                f"{self._path}bulk_delete/", wanted, seconds=READ_SECONDS
            )
            # The status is 202 all the same. Before PostHog/posthog#53357 there was no body.
            failed += sequence(mapping(answer).get("deletion_errors"))
        if failed:
            raise PostHogError(_not_deleted(failed), HTTPStatus.ACCEPTED)


def _not_deleted(failed: Sequence[Any]) -> str:
    """Say of whom and where it failed: PostHog names the step since PostHog/posthog#101908."""
    said = []
    for one in map(mapping, failed[:_NAMED]):
        uuid, step = one.get("person_uuid") or one.get("person_id"), one.get("step")
        said.append(f"{uuid or 'a person'} ({step})" if step else f"{uuid or 'a person'}")
    more = len(failed) - len(said)
    return f"it could not delete {', '.join(said)}" + (f" and {more} more" if more else "")

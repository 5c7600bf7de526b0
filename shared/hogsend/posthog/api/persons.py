"""`/api/projects/{id}/persons/`: reading persons."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from hogsend.contract.base import Properties
from hogsend.posthog.api.reading import mapping, sequence
from hogsend.posthog.api.transport import Transport
from hogsend.posthog.errors import PostHogError

TRIAL_SECONDS = 5.0
READ_SECONDS = 10.0


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
        """Check whether persons can be read, by reading one.

        Raises:
            PostHogError: they cannot; its `status` tells a refusal from an outage.
        """
        await self._transport.get(f"{self._path}?limit=1", seconds=TRIAL_SECONDS)

"""`/api/environments/{id}/persons/`: reading persons."""

from __future__ import annotations

from urllib.parse import quote

from hogsend.posthog.api.transport import Transport

TRIAL_SECONDS = 5.0


class Persons:
    """Persons of one project."""

    def __init__(self, transport: Transport, project_id: str) -> None:
        """Ask about `project_id` through `transport`."""
        self._transport = transport
        self._path = f"/api/environments/{quote(project_id, safe='')}/persons/"

    async def try_read(self) -> None:
        """Find out whether persons can be read, by reading one.

        Raises:
            PostHogError: they cannot; its `status` tells a refusal from an outage.
        """
        await self._transport.get(f"{self._path}?limit=1", seconds=TRIAL_SECONDS)

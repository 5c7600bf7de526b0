"""Whether what PostHog does not find is not there, or the project is not that it would be in."""

from __future__ import annotations

import asyncio

import httpx

from hogsend.contract.provisioning import Refusal
from hogsend.posthog.api import PostHogError, Projects, Transport
from hogsend.posthog.project_choice import ProjectChoice
from services.provisioner.destination.errors import Step, from_posthog


class MissingProject:
    """Reads the project of a diagnosis, once, and only when something in it is not found."""

    def __init__(self, transport: Transport, choice: ProjectChoice, seconds: float) -> None:
        """Ask over `transport`, `seconds` at most."""
        self._transport = transport
        self._choice = choice
        self._seconds = seconds
        self._reading: asyncio.Task[Refusal | None] | None = None

    async def explains(self, error: PostHogError) -> Refusal | None:
        """Say that the project is not found either; None where that is not why `error` came."""
        # A project that PostHog chose was read for its id a moment ago.
        if error.status != httpx.codes.NOT_FOUND or self._choice.id is None:
            return None
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())
        return await self._reading

    async def _read(self) -> Refusal | None:
        try:
            await Projects(self._transport).get(self._choice.id, seconds=self._seconds)
        except PostHogError as error:
            if error.status == httpx.codes.NOT_FOUND:
                return from_posthog(error, Step.PROJECT, "", self._choice).refusal
        return None

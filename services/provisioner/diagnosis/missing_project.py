"""Determines whether a 404 of PostHog means that the whole project is missing."""

from __future__ import annotations

import asyncio

import httpx

from hogsend.contract.provisioning import Refusal
from hogsend.posthog.api import PostHogError, Projects, Transport
from hogsend.posthog.project_choice import ProjectChoice
from services.provisioner.destination.posthog_errors import Step, from_posthog


class MissingProject:
    """Reads the project of a diagnosis once, and only after PostHog returned a 404 for it."""

    def __init__(self, transport: Transport, choice: ProjectChoice, seconds: float) -> None:
        """Read over `transport`, within `seconds`."""
        self._transport = transport
        self._choice = choice
        self._seconds = seconds
        self._reading: asyncio.Task[Refusal | None] | None = None

    async def explain(self, error: PostHogError) -> Refusal | None:
        """Return a refusal if `error` occurred because the project is missing; else None."""
        # Without a chosen id, the project's id was read from PostHog a moment ago, so it exists.
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

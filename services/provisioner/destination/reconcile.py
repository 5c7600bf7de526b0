"""Brings the destination in PostHog up to date: find ours, leave others alone, write if needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import aclosing, contextmanager

import structlog

from hogsend.contract.provisioning import Action, Destination, Provisioned
from hogsend.posthog.api import (
    HogFunction,
    HogFunctions,
    PostHogError,
    Project,
    Projects,
    Transport,
)
from services.provisioner.destination import desired as bodies
from services.provisioner.destination.candidates import candidates
from services.provisioner.destination.desired import Desired
from services.provisioner.destination.drift import differences
from services.provisioner.destination.errors import (
    Step,
    missing_secret,
    no_function_id,
    no_project_id,
    refused,
)
from services.provisioner.destination.instance_probe import LiveInstances
from services.provisioner.destination.ownership import Ownership
from services.provisioner.destination.store import Turn
from services.provisioner.destination.webhook_url import shown

log = structlog.get_logger(__name__)


def dashboard_url(private_host: str, project_id: str, hog_function_id: str) -> str:
    """Page of a destination in PostHog (contract 2.6)."""
    return (
        f"{private_host}/project/{project_id}/pipeline/destinations/"
        f"hog-{hog_function_id}/configuration"
    )


class Reconciliation:
    """One run against PostHog (contract 2.2). Every method raises `Refused` when PostHog does."""

    def __init__(
        self, transport: Transport, private_host: str, desired: Desired, instances: LiveInstances
    ) -> None:
        """Prepare to bring about `desired` at `private_host`."""
        self._transport = transport
        self._host = private_host
        self._desired = desired
        self._instances = instances

    async def project(self, project_id: str | None) -> Project:
        """Find the project, which is asked for even when its id is known."""
        if not self._desired.secret:
            raise missing_secret()
        with self._during(Step.PROJECT):
            project = await Projects(self._transport).get(project_id)
        if project.id is None:
            raise no_project_id()
        return project

    async def run(self, project_id: str, turn: Turn) -> Provisioned:
        """Make, change or keep the destination."""
        functions = HogFunctions(self._transport, project_id)
        ownership = Ownership(
            self._desired.webhook_url,
            self._desired.secret,
            await turn.provisioned(project_id),
            self._instances,
        )
        others: list[Destination] = []
        async with aclosing(candidates(functions, self._during)) as found:
            async for function in found:
                if not self._desired.enabled:
                    # A placeholder is for later; whatever is there already is better than one.
                    url = shown(function.input("url"))
                    return self._result(
                        "unchanged", project_id, function.id, url=url, enabled=function.enabled
                    )
                if await ownership.is_ours(function):
                    action = await self._adopt(functions, function, turn)
                    return await self._remembered(action, project_id, function.id, others, turn)
                other = Destination(
                    hog_function_id=function.id, webhook_url=shown(function.input("url"))
                )
                log.info("left another instance's destination alone", url=other.webhook_url)
                others.append(other)
        await turn.confirm()
        with self._during(Step.COLLECTION):
            created = await functions.create(bodies.creation(self._desired))
        if created is None:
            raise no_function_id()
        return await self._remembered("created", project_id, created, others, turn)

    async def _adopt(self, functions: HogFunctions, function: HogFunction, turn: Turn) -> Action:
        drift = differences(function, self._desired.webhook_url, self._desired.secret)
        if not drift:
            return "unchanged"
        log.info("destination is brought up to date", hog_function_id=function.id, because=drift)
        await turn.confirm()
        with self._during(Step.FUNCTION):
            await functions.change(function.id, bodies.changes(function, self._desired))
        return "updated"

    async def _remembered(
        self, action: Action, project_id: str, id: str, others: list[Destination], turn: Turn
    ) -> Provisioned:
        await turn.remember(project_id, id, self._desired.webhook_url)
        return self._result(
            action,
            project_id,
            id,
            url=self._desired.webhook_url,
            enabled=self._desired.enabled,
            others=others,
        )

    def _result(
        self,
        action: Action,
        project_id: str,
        id: str,
        *,
        url: str,
        enabled: bool,
        others: list[Destination] | None = None,
    ) -> Provisioned:
        return Provisioned(
            action=action,
            hog_function_id=id,
            webhook_url=url,
            dashboard_url=dashboard_url(self._host, project_id, id),
            enabled=enabled,
            other_instances=others or [],
        )

    @contextmanager
    def _during(self, step: Step) -> Iterator[None]:
        try:
            yield
        except PostHogError as error:
            raise refused(error, step, self._desired.webhook_url) from error

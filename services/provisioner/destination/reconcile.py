"""Reconciles this instance's destination in PostHog; other instances' are not changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import aclosing, contextmanager

import msgspec
import structlog

from hogsend.contract.provisioning import Action, Destination, Provisioned, Unsigned
from hogsend.posthog.api import (
    HogFunction,
    HogFunctions,
    PostHogError,
    Project,
    Projects,
    Transport,
)
from hogsend.posthog.project_choice import ProjectChoice
from services.provisioner.credentials import PinnedGrant
from services.provisioner.destination import desired as bodies
from services.provisioner.destination import signing
from services.provisioner.destination.candidates import candidates
from services.provisioner.destination.desired import Desired
from services.provisioner.destination.drift import find_drift
from services.provisioner.destination.errors import cannot_sign, missing_secret
from services.provisioner.destination.instance_probe import InstanceProbe
from services.provisioner.destination.ownership import Ownership
from services.provisioner.destination.posthog_errors import (
    Step,
    from_posthog,
    no_function_id,
    no_project_id,
)
from services.provisioner.destination.signing_secret import SigningSecrets
from services.provisioner.destination.store import ProvisioningLock
from services.provisioner.destination.webhook_url import redacted_url

log = structlog.get_logger(__name__)


def dashboard_url(private_host: str, project_id: str, hog_function_id: str) -> str:
    """Return the URL of a destination's page in PostHog (contract 2.6)."""
    return (
        f"{private_host}/project/{project_id}/pipeline/destinations/"
        f"hog-{hog_function_id}/configuration"
    )


class Reconciliation:
    """One run against PostHog (contract 2.2).

    Every method raises `ProvisioningError`, and `GrantReplaced` when the grant was replaced.
    """

    def __init__(
        self,
        transport: Transport,
        private_host: str,
        desired: Desired,
        instances: InstanceProbe,
        choice: ProjectChoice,
        *,
        grant: PinnedGrant,
        signing_secrets: SigningSecrets,
        signatures_required: bool = False,
    ) -> None:
        self._transport = transport
        self._grant = grant
        self._host = private_host
        self._desired = desired
        self._instances = instances
        self._choice = choice
        self._signing = signing_secrets
        self._signatures_required = signatures_required

    async def project(self) -> Project:
        """Read the chosen project, even if its id is known: its `api_token` is needed."""
        if not self._desired.secret:
            raise missing_secret()
        with self._at_step(Step.PROJECT):
            project = await Projects(self._transport).get(self._choice.id)
        if project.id is None:
            raise no_project_id()
        return project

    async def run(self, project_id: str, lock: ProvisioningLock) -> Provisioned:
        """Create the destination, update it, or leave it unchanged."""
        functions = HogFunctions(self._transport, project_id)
        ownership = Ownership(
            self._desired.webhook_url,
            self._desired.secret,
            await lock.provisioned(project_id),
            self._instances,
        )
        others: list[Destination] = []
        provisioned = ownership.provisioned.keys()
        async with aclosing(candidates(functions, self._at_step, provisioned)) as destinations:
            async for function in destinations:
                if not self._desired.enabled:
                    # A placeholder never replaces an existing destination.
                    url = redacted_url(function.input("url"))
                    return self._result(
                        "unchanged", project_id, function.id, url=url, enabled=function.enabled
                    )
                if await ownership.is_own(function):
                    action, unsigned = await self._adopt(functions, function, lock)
                    return await self._record(
                        action, project_id, function.id, others, lock, unsigned=unsigned
                    )
                other = Destination(
                    hog_function_id=function.id,
                    webhook_url=redacted_url(function.input("url")),
                    dashboard_url=dashboard_url(self._host, project_id, function.id),
                )
                log.info("left another instance's destination alone", url=other.webhook_url)
                others.append(other)
        created = await self._create(functions, lock)
        unsigned = None
        if self._desired.enabled:
            # Only the created destination shows whether it can sign.
            _, unsigned = await self._adopt(functions, created, lock, created=True)
        return await self._record(
            "created", project_id, created.id, others, lock, unsigned=unsigned
        )

    async def _create(self, functions: HogFunctions, lock: ProvisioningLock) -> HogFunction:
        body = bodies.creation(self._desired)
        if self._signatures_required:
            # Enabled only once it signs: the gateway would refuse unsigned deliveries.
            body = msgspec.structs.replace(body, enabled=False)
        await self._confirm(lock)
        with self._at_step(Step.COLLECTION):
            created = await functions.create(body)
        if created is None:
            raise no_function_id()
        return created

    async def _adopt(
        self,
        functions: HogFunctions,
        function: HogFunction,
        lock: ProvisioningLock,
        *,
        created: bool = False,
    ) -> tuple[Action, Unsigned | None]:
        """Update a destination if it drifted; return the action, and why it does not sign."""
        secret = await self._signing_secret(function)
        drift = signing.find_drift(function, secret)
        if not created or self._signatures_required:
            drift += find_drift(function, self._desired.webhook_url, self._desired.secret)
        if not drift:
            return "unchanged", signing.unsigned_reason(function, secret)
        log.info("updating the destination", hog_function_id=function.id, because=drift)
        desired = msgspec.structs.replace(self._desired, signing_secret=secret)
        await self._confirm(lock)
        with self._at_step(Step.FUNCTION):
            await functions.change(function.id, bodies.changes(function, desired))
        return "updated", None if secret else signing.unsigned_reason(function, None)

    async def _confirm(self, lock: ProvisioningLock) -> None:
        """Check that this run may still change PostHog: its grant and its lock are in force."""
        await self._grant.confirm()
        await lock.confirm()

    async def _signing_secret(self, function: HogFunction) -> str | None:
        """Return the key to sign with; None if the destination cannot sign or no key is available.

        Raises:
            ProvisioningError: there is no such key, and signatures are required.
        """
        support = signing.signing_support(function)
        secret = None
        if support in {signing.SigningSupport.READY, signing.SigningSupport.UPGRADE}:
            secret = await self._signing.obtain()
        if secret is not None:
            self._transport.hide(secret)
        elif self._signatures_required:
            raise cannot_sign(signing.unsigned_reason(function, None))
        return secret

    async def _record(
        self,
        action: Action,
        project_id: str,
        id: str,
        others: list[Destination],
        lock: ProvisioningLock,
        *,
        unsigned: Unsigned | None,
    ) -> Provisioned:
        await lock.record(project_id, id, self._desired.webhook_url)
        if unsigned is None and self._desired.enabled:
            await self._signing.settle()
        return self._result(
            action,
            project_id,
            id,
            url=self._desired.webhook_url,
            enabled=self._desired.enabled,
            others=others,
            signed=unsigned is None if self._desired.enabled else None,
            unsigned_because=unsigned,
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
        signed: bool | None = None,
        unsigned_because: Unsigned | None = None,
    ) -> Provisioned:
        return Provisioned(
            action=action,
            hog_function_id=id,
            webhook_url=url,
            dashboard_url=dashboard_url(self._host, project_id, id),
            enabled=enabled,
            other_instances=others or [],
            signed=signed,
            unsigned_because=unsigned_because,
        )

    @contextmanager
    def _at_step(self, step: Step) -> Iterator[None]:
        try:
            yield
        except PostHogError as error:
            raise from_posthog(error, step, self._desired.webhook_url, self._choice) from error

"""Runs provisioning: checks preconditions, locks, obtains secrets, and updates PostHog."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence
from dataclasses import dataclass

import httpx
import structlog
from prometheus_client import Counter

from hogsend.contract.credentials import TokenReply
from hogsend.contract.errors import GrantReplaced, HogsendError, InvalidRequest, Unavailable
from hogsend.contract.provisioning import Provisioned, ProvisionLoop, ProvisionReply
from hogsend.posthog.api import Transport
from hogsend.posthog.project_choice import choose_project
from services.provisioner.credentials import Credentials, PinnedGrant
from services.provisioner.destination import desired, preconditions, project_record
from services.provisioner.destination.desired import Desired
from services.provisioner.destination.errors import (
    ProvisioningError,
    cannot_rotate,
    grant_replaced,
    with_refresh_reason,
)
from services.provisioner.destination.instance_probe import InstanceProbe
from services.provisioner.destination.reconcile import Reconciliation
from services.provisioner.destination.signing_secret import SigningSecrets
from services.provisioner.destination.store import DestinationStore, ProvisioningLock
from services.provisioner.destination.webhook_secret import WebhookSecrets

log = structlog.get_logger(__name__)

RUN_SECONDS = 50.0
"""Time limit of a run, including its wait for the lock; below the endpoint's deadline."""

PATIENCE_SECONDS = 5.0
"""Longest wait of one request for the `Retry-After` of a rate limit."""

MAX_CONCURRENT = 8
"""Limit of active and waiting runs in one process; further requests are refused."""

RUNS = Counter("hogsend_provisioner_runs", "Provisioning runs, by how they ended", ["outcome"])


@dataclass(frozen=True)
class Instance:
    """Configuration: the PostHog and project to provision, and this instance's public URL."""

    private_host: str | None
    project_id: str | None
    public_url: str


class Provisioning:
    """Makes PostHog deliver to this instance; a repeated run changes nothing."""

    def __init__(
        self,
        instance: Instance,
        credentials: Credentials,
        secrets: WebhookSecrets,
        store: DestinationStore,
        http: httpx.AsyncClient,
        *,
        signing: SigningSecrets,
    ) -> None:
        self._instance = instance
        self._credentials = credentials
        self._secrets = secrets
        self._signing = signing
        self._store = store
        self._http = http
        # Taken before the database lock, so that a waiting run holds no database connection.
        self._local_lock = asyncio.Lock()
        self._active = 0

    async def run(self, request: ProvisionLoop) -> ProvisionReply:
        """Provision, or reply with the reason for a failure.

        Raises:
            Unavailable: a dependency is down, or the run took too long; a later run may succeed.
        """
        outcome = HogsendError.code
        self._active += 1
        try:
            if self._active > MAX_CONCURRENT:
                raise Unavailable("too many provisioning runs at once; try again")
            async with asyncio.timeout(RUN_SECONDS):
                try:
                    provisioned = await self._run(request)
                except GrantReplaced as error:
                    raise grant_replaced() from error
            outcome = provisioned.action
        except ProvisioningError as error:
            outcome = error.refusal.code
            log.warning("not provisioned", code=outcome, detail=error.refusal.detail)
            return ProvisionReply(refusal=error.refusal)
        except TimeoutError as error:
            outcome = Unavailable.code
            raise Unavailable(
                "provisioning took too long and was stopped; PostHog may be slow, try again"
            ) from error
        except HogsendError as error:
            outcome = error.code
            raise
        finally:
            self._active -= 1
            RUNS.labels(outcome).inc()
        log.info(
            "provisioned", action=provisioned.action, hog_function_id=provisioned.hog_function_id
        )
        return ProvisionReply(provisioned=provisioned)

    async def _run(self, request: ProvisionLoop) -> Provisioned:
        placeholder = request.placeholder
        if request.rotate_webhook_secret:
            if placeholder:
                raise InvalidRequest("a placeholder has no webhook secret to change")
            self._secrets.check_rotation()
        instance = self._instance
        bearer = await self._credentials.bearer()
        host = preconditions.require(
            bearer, instance.private_host, instance.public_url, placeholder=placeholder
        )
        preconditions.check_project(instance.project_id, bearer, host, request.project_id)
        grant = PinnedGrant(self._credentials, bearer)
        secrets, signing = self._secrets.with_store(grant), self._signing.with_store(grant)
        async with self._local_lock, self._store.lock() as lock:
            secret = await secrets.obtain()
            # Secrets that are removed from PostHog's error messages.
            hidden = [secret]
            desired_state = (
                desired.placeholder(secret)
                if placeholder
                else desired.live(instance.public_url, secret)
            )

            attempt_once = functools.partial(
                self._attempt, host=host, lock=lock, request=request, grant=grant, hidden=hidden
            )

            async def attempt() -> Provisioned:
                nonlocal bearer
                try:
                    return await attempt_once(bearer, desired_state=desired_state)
                except ProvisioningError as error:
                    bearer = await self._replacement_bearer(bearer, error)
                log.info("PostHog refused the token; starting over with a fresh one")
                try:
                    return await attempt_once(bearer, desired_state=desired_state)
                except ProvisioningError as error:
                    raise with_refresh_reason(error, bearer.not_refreshed) from error

            provisioned = await attempt()
            if request.rotate_webhook_secret:
                # PostHog now sends the present secret, which stays accepted as the previous one.
                hidden.append(await secrets.rotate())
                desired_state = desired.live(instance.public_url, hidden[-1])
                provisioned = await attempt()
            if not placeholder:
                await secrets.settle()
            if not request.rotate_signing_key:
                return provisioned
            if signing.configured or not provisioned.signed:
                raise cannot_rotate(
                    provisioned.unsigned_because, configured=signing.configured is not None
                )
            # PostHog now signs with the present key, which stays accepted as the previous one.
            await signing.rotate()
            return await attempt()

    async def _replacement_bearer(self, bearer: TokenReply, error: ProvisioningError) -> TokenReply:
        """Return a bearer in place of one that PostHog rejected.

        Raises:
            ProvisioningError: there is no other bearer; `error` with the reason, if one is known.
            Unavailable: the credentials service is down.
        """
        if error.refusal.code != "unauthorized" or bearer.source != "oauth":
            raise with_refresh_reason(error, bearer.not_refreshed)
        fresh = await self._credentials.replace_bearer(bearer.token or "")
        if not fresh.token or fresh.token == bearer.token:
            raise with_refresh_reason(error, fresh.not_refreshed)
        return fresh

    async def _attempt(
        self,
        bearer: TokenReply,
        host: str,
        desired_state: Desired,
        lock: ProvisioningLock,
        *,
        request: ProvisionLoop,
        grant: PinnedGrant,
        hidden: Sequence[str],
    ) -> Provisioned:
        transport = Transport(
            self._http, host, bearer.token or "", secrets=hidden, max_wait=PATIENCE_SECONDS
        )
        choice = choose_project(self._instance.project_id, bearer, host, request.project_id)
        reconciliation = Reconciliation(
            transport,
            host,
            desired_state,
            InstanceProbe(self._http),
            choice,
            grant=grant,
            signing_secrets=self._signing.with_store(grant),
            signatures_required=request.signatures_required and desired_state.enabled,
        )
        project = await reconciliation.project()
        await project_record.save(grant, project, host)
        return await reconciliation.run(project.id or "", lock)

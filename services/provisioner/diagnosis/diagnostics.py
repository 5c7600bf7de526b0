"""Diagnoses the whole integration. A failing dependency hides only findings that need it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Literal, TypeVar

import httpx
import structlog

from hogsend.contract.credentials import DerivedPayload, DerivedReply, TokenReply
from hogsend.contract.errors import HogsendError, Unavailable
from hogsend.contract.provisioning import DestinationFinding, Diagnosis, ReadsFinding
from hogsend.posthog.api import HogFunctions, Persons, PostHogError, Projects, Transport
from hogsend.posthog.project_choice import DENIED, ProjectChoice, choose_project
from hogsend.service import metrics
from hogsend.service.shared_read import SharedRead
from services.provisioner.credentials import Credentials
from services.provisioner.destination.errors import (
    NOT_REFRESHED_DETAIL,
    NOT_REFRESHED_REMEDY,
    RERUN,
)
from services.provisioner.destination.instance_probe import InstanceProbe
from services.provisioner.destination.ownership import Ownership
from services.provisioner.destination.posthog_errors import (
    DISCOVERY_REMEDY,
    RETRY_REMEDY,
    Step,
    describe,
    from_posthog,
    remedy_of,
)
from services.provisioner.destination.provisioning import Instance
from services.provisioner.destination.signing_secret import SigningSecrets
from services.provisioner.destination.store import DestinationStore
from services.provisioner.destination.webhook_secret import WebhookSecrets
from services.provisioner.destination.webhook_url import webhook_url
from services.provisioner.diagnosis import findings
from services.provisioner.diagnosis.destination_probe import DestinationProbe
from services.provisioner.diagnosis.dry_run import dry_run
from services.provisioner.diagnosis.missing_project import MissingProject

log = structlog.get_logger(__name__)

# Time limits of successive steps; their sum is below the endpoint's deadline of 20 s. The project
# is read once: before the other requests to PostHog, or after them.
BEARER_SECONDS = 5.0
PROJECT_SECONDS = 4.0
STORE_SECONDS = 2.0
DESTINATION_SECONDS = 6.0
NOT_FOUND = 404

Reply = TypeVar("Reply")


class Diagnostics:
    """Checks every part of the integration between this instance and PostHog."""

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
        self._secrets = secrets
        self._signing = signing
        self._instance = instance
        self._credentials = credentials
        self._store = store
        self._http = http

    async def run(self) -> Diagnosis:
        """Check every part, and report each with a remediation where an operator has to act."""
        status, bearer, derived = await asyncio.gather(
            _reply_or_error(self._credentials.status()),
            _reply_or_error(self._bearer()),
            _reply_or_error(self._credentials.derived()),
        )
        minted = derived.payload if isinstance(derived, DerivedReply) else None
        reads, destination, transport = await self._ask_posthog(
            bearer,
            self._secret(minted),
            self._signing_secret(minted),
            connected=None if isinstance(derived, HogsendError) else minted is not None,
        )
        return Diagnosis(
            private_host=self._instance.private_host,
            credential=findings.credential(status),
            person_reads=reads,
            webhook_secret=findings.webhook_secret(
                status, configured=self._secrets.configured is not None
            ),
            destination=destination,
            scope_gap=findings.scope_gap(status),
            public_url=findings.public_url(self._instance.public_url),
            provisioning=await dry_run(self._instance, bearer, status, self._secrets),
            posthog_now=transport.posthog_now if transport else None,
        )

    async def _bearer(self) -> TokenReply:
        """Return the bearer that a request would use now.

        If the cache has none because PostHog rejected the token, the stored one is requested: a
        diagnosis has to check whether PostHog still rejects it.

        Raises:
            Unavailable: the credentials service is down, or did not reply in time.
        """
        try:
            async with asyncio.timeout(BEARER_SECONDS):
                cached = await self._credentials.cached_bearer(BEARER_SECONDS)
                return cached if cached.token else await self._credentials.bearer()
        except TimeoutError as error:
            raise Unavailable("the credentials service did not answer in time") from error

    def _secret(self, minted: DerivedPayload | None) -> str | None:
        return self._secrets.configured or (minted.webhook_secret if minted else None)

    def _signing_secret(self, minted: DerivedPayload | None) -> str | None:
        return self._signing.configured or (minted.signing_secret if minted else None)

    async def _ask_posthog(
        self,
        bearer: TokenReply | HogsendError,
        secret: str | None,
        signing_secret: str | None,
        *,
        connected: bool | None,
    ) -> tuple[ReadsFinding, DestinationFinding, Transport | None]:
        """Check person reads and the destination; also return the transport, if one was used."""
        if isinstance(bearer, HogsendError):
            unanswered = findings.unanswered(bearer)
            return _reads("unknown", "none", *unanswered), _unknown(*unanswered), None
        if not bearer.token:
            no_bearer = (
                (f"{NOT_REFRESHED_DETAIL}: {bearer.not_refreshed}.", NOT_REFRESHED_REMEDY)
                if bearer.not_refreshed
                else (
                    "There is neither a usable OAuth credential nor a personal API key.",
                    "Run `hogsend connect posthog`, or set POSTHOG_PERSONAL_API_KEY.",
                )
            )
            return _reads("off", "none", *no_bearer), _unknown(*no_bearer), None
        host = self._instance.private_host
        if host is None:
            no_host = (
                "No PostHog host is configured.",
                "Set POSTHOG_HOST, or POSTHOG_API_KEY alone for PostHog's US cloud.",
            )
            return _reads("unknown", bearer.source, *no_host), _unknown(*no_host), None
        secrets = [value for value in (secret, signing_secret) if value]
        transport = Transport(self._http, host, bearer.token, secrets=secrets)
        choice = choose_project(self._instance.project_id, bearer, host)
        try:
            project_id = await self._project_id(transport, choice)
        except PostHogError as error:
            refusal = from_posthog(error, Step.PROJECT, "", choice).refusal
            unknown = _unknown(refusal.detail, refusal.remediation)
            return _failing(bearer, error, choice), unknown, transport
        missing = MissingProject(transport, choice, PROJECT_SECONDS)
        reads, destination = await asyncio.gather(
            self._check_reads(transport, project_id, bearer, choice, missing=missing),
            self._probe_destination(
                transport,
                project_id,
                (secret, signing_secret),
                host,
                choice,
                missing=missing,
                connected=connected,
            ),
        )
        return reads, destination, transport

    async def _project_id(self, transport: Transport, choice: ProjectChoice) -> str:
        if choice.id is not None:
            return choice.id
        project = await Projects(transport).get(None, seconds=PROJECT_SECONDS)
        if project.id is None:
            raise PostHogError("PostHog's response for the project has no id")
        return project.id

    async def _check_reads(
        self,
        transport: Transport,
        project_id: str,
        bearer: TokenReply,
        choice: ProjectChoice,
        *,
        missing: MissingProject,
    ) -> ReadsFinding:
        try:
            await Persons(transport, project_id).check_readable()
        except PostHogError as error:
            if (refusal := await missing.explain(error)) is not None:
                return _reads("failing", bearer.source, refusal.detail, refusal.remediation)
            return _failing(bearer, error, choice)
        return _reads("working", bearer.source)

    async def _probe_destination(
        self,
        transport: Transport,
        project_id: str,
        secrets: tuple[str | None, str | None],
        host: str,
        choice: ProjectChoice,
        *,
        missing: MissingProject,
        connected: bool | None,
    ) -> DestinationFinding:
        secret, signing_secret = secrets
        url = webhook_url(self._instance.public_url)
        provisioned = await self._provisioned(project_id)
        ownership = Ownership(url, secret, provisioned or {}, InstanceProbe(self._http))
        probe = DestinationProbe(
            host,
            project_id,
            ownership,
            signing_secret,
            secrets_known=connected is not None,
            expected=_is_expected(connected, provisioned),
        )
        try:
            async with asyncio.timeout(DESTINATION_SECONDS):
                return await probe.find(HogFunctions(transport, project_id))
        except PostHogError as error:
            refusal = await missing.explain(error) if probe.step is Step.COLLECTION else None
            refusal = refusal or from_posthog(error, probe.step, url, choice).refusal
            return probe.live or _unknown(refusal.detail, refusal.remediation)
        except TimeoutError:
            return probe.live or _unknown(
                f"PostHog did not list its destinations within {DESTINATION_SECONDS:g} s.",
                "Try again; PostHog is slow, or has many destinations.",
            )

    async def _provisioned(self, project_id: str) -> dict[str, str] | None:
        reading = SharedRead(lambda: _reply_or_error(self._store.provisioned(project_id)))
        provisioned = await reading.result(STORE_SECONDS)
        return None if isinstance(provisioned, HogsendError) else provisioned


def _is_expected(connected: bool | None, provisioned: Mapping[str, str] | None) -> bool | None:
    """Whether a destination was provisioned for the current connection; None when unknown."""
    if connected and provisioned is not None:
        return bool(provisioned)
    return False if connected is False else None


async def _reply_or_error(request: Awaitable[Reply]) -> Reply | HogsendError:
    try:
        return await request
    except HogsendError as error:
        metrics.FAILURES.labels("diagnosis", error.code).inc()
        log.debug("a dependency did not answer", reason=str(error))
        return error


def _failing(bearer: TokenReply, error: PostHogError, choice: ProjectChoice) -> ReadsFinding:
    if error.status in DENIED and not choice.is_covered:
        detail = f"{choice.mismatch} {describe(error)}"
        return _reads("failing", bearer.source, detail, choice.remedy)
    is_discovery = error.status in {None, NOT_FOUND} and choice.source != "grant"
    remedy = remedy_of(error, choice) or (DISCOVERY_REMEDY if is_discovery else RETRY_REMEDY)
    return _reads("failing", bearer.source, describe(error), remedy)


def _reads(
    state: Literal["working", "failing", "off", "unknown"],
    through: Literal["oauth", "personal_key", "none"],
    detail: str | None = None,
    remediation: str | None = None,
) -> ReadsFinding:
    return ReadsFinding(
        state=state, through=through, detail=detail, remediation=_for_diagnosis(remediation)
    )


def _unknown(detail: str | None, remediation: str | None) -> DestinationFinding:
    return DestinationFinding(
        state="unknown", detail=detail, remediation=_for_diagnosis(remediation)
    )


def _for_diagnosis(remediation: str | None) -> str | None:
    # The remedies are written for provisioning, after which it is run again.
    return remediation.replace(RERUN, "then run `hogsend doctor` again.") if remediation else None

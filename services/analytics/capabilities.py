"""Reports which capabilities work on this instance, and why the others do not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Literal, TypeAlias

import structlog

from hogsend.contract.capabilities import Capabilities, Capability, CapabilityName
from hogsend.contract.credentials import TokenReply
from hogsend.contract.errors import Forbidden, HogsendError, sentence
from hogsend.posthog.errors import PostHogError
from hogsend.service.metrics import FAILURES
from hogsend.service.shared_read import SharedRead
from services.analytics.destinations.model import Destination
from services.analytics.destinations.store import DestinationStore
from services.analytics.persons.read_trial import ReadTrial
from services.analytics.project_key import PROVISIONING_SECONDS, ProjectKey

log = structlog.get_logger(__name__)

SET_KEY = "Set POSTHOG_API_KEY to the project API key (phc_…)."
SET_KEY_OR_CONNECT = (
    f"{SET_KEY} Or run `hogsend connect posthog`: it stores the key of its project."
)
PROVISION = "Run `hogsend connect posthog --provision-only`, or set POSTHOG_API_KEY."
OTHER_KEY = (
    "POSTHOG_API_KEY is set, to another key than that of the connected project. PostHog may not "
    "know it: then it answers 200, and drops the events."
)
CHECK_KEY = (
    "Unless you capture into another project on purpose, compare POSTHOG_API_KEY with the project "
    "API key in PostHog's settings, or unset it: then the connected project's is used. If that key "
    "was reset in PostHog, run `hogsend connect posthog --provision-only`."
)
NOT_KNOWN = "The credentials service did not answer, so this is not known."
RUN_DOCTOR = "Run `hogsend doctor`: it says what to do."
CHECK_STATUS = "Look at `hogsend status` and at the credentials service's log."

STORE_SECONDS = 2.0
"""Longest wait for PostgreSQL. Callers wait five seconds for the report."""

KeyState: TypeAlias = Literal["known", "other", "awaited", "absent"]
"""Whether there is a project key. It is `other` if it is not the connected project's. While one is
`awaited`, events wait for it."""


class CapabilityReport:
    """Reports the capabilities of the analytics service."""

    def __init__(
        self,
        trial: ReadTrial,
        project_key: ProjectKey,
        store: DestinationStore,
        *,
        destination_enabled: bool,
    ) -> None:
        """Derive capabilities from these parts.

        Args:
            trial: reads a person, to check person reads.
            project_key: the project that events are captured in.
            store: the destinations.
            destination_enabled: whether ENABLE_POSTHOG_DESTINATION is set.
        """
        self._trial = trial
        self._project_key = project_key
        self._store = store
        self._destination_enabled = destination_enabled
        self._destinations = SharedRead(self._read_destinations)

    async def capabilities(self) -> Capabilities:
        """Report every capability; one whose check fails is `unknown` and affects no other."""
        key, reads, destinations = await asyncio.gather(
            self._key_state(), self._read_capability(), self._destinations.result(STORE_SECONDS)
        )
        return Capabilities(
            [
                self._capture_capability("eventCapture", key),
                self._capture_capability("personWrites", key),
                reads,
                self._engagement_capability(key, destinations),
            ]
        )

    async def _key_state(self) -> KeyState | HogsendError:
        try:
            if await self._project_key.project() is not None:
                return "other" if await self._has_other_key() else "known"
            return "awaited" if await self._project_key.is_awaited() else "absent"
        except HogsendError as error:
            _count_unknown(error.code, error)
            return error

    async def _has_other_key(self) -> bool:
        try:
            return await self._project_key.differs_from_connected()
        except HogsendError as error:
            # Captures with POSTHOG_API_KEY do not need the credentials service.
            _count_unknown(error.code, error)
            return False

    def _capture_capability(self, name: CapabilityName, key: KeyState | HogsendError) -> Capability:
        if isinstance(key, HogsendError):
            return _unknown(name, key)
        if key == "awaited":
            reason = (
                "PostHog was connected, and its project is not stored yet. Events wait for it, "
                f"{PROVISIONING_SECONDS / 60:.0f} minutes at most."
            )
            return Capability(name=name, state="off", reason=reason, remediation=PROVISION)
        if key == "absent":
            reason = "There is no project API key."
            return Capability(name=name, state="off", reason=reason, remediation=SET_KEY_OR_CONNECT)
        if key == "other":
            return Capability(name=name, state="on", reason=OTHER_KEY, remediation=CHECK_KEY)
        if self._project_key.from_environment:
            return Capability(name=name, state="on", reason="POSTHOG_API_KEY is set.")
        return Capability(
            name=name, state="on", reason="The project key stored by `connect posthog` is used."
        )

    async def _read_capability(self) -> Capability:
        """Check with a trial read: a bearer alone does not show whether PostHog accepts it."""
        name: CapabilityName = "personReads"
        try:
            bearer = await self._trial.outcome()
        except HogsendError as error:
            _count_unknown(error.code, error)
            return _unknown(name, error)
        except TimeoutError as error:
            _count_unknown("timeout", error)
            reason = "PostHog did not answer in time, so this is not known."
            return Capability(name=name, state="unknown", reason=reason, remediation=RUN_DOCTOR)
        except PostHogError as error:
            _count_unknown("posthog", error)
            if error.status is None:
                reason = f"{error.detail}, so this is not known."
                return Capability(name=name, state="unknown", reason=reason, remediation=RUN_DOCTOR)
            reason = f"PostHog answered {error.status} to a read: {error.detail}"
            return Capability(name=name, state="off", reason=reason, remediation=RUN_DOCTOR)
        if not bearer.token:
            return _without_bearer(name, bearer)
        through = "the OAuth credential" if bearer.source == "oauth" else "POSTHOG_PERSONAL_API_KEY"
        return Capability(name=name, state="on", reason=f"Persons are read through {through}.")

    async def _read_destinations(self) -> Sequence[Destination] | None:
        """Read the destinations; None when PostgreSQL does not answer."""
        try:
            return await self._store.all()
        except HogsendError as error:
            _count_unknown(error.code, error)
            return None

    def _engagement_capability(
        self, key: KeyState | HogsendError, destinations: Sequence[Destination] | None
    ) -> Capability:
        name: CapabilityName = "engagementOut"
        if destinations is None:
            return Capability(
                name=name,
                state="unknown",
                reason="PostgreSQL did not answer, so this is not known.",
                remediation="Look at `hogsend status`.",
            )
        active = [destination for destination in destinations if not destination.disabled]
        created = [destination for destination in active if not destination.is_default]
        if any(destination.config.api_key for destination in created):
            return Capability(
                name=name, state="on", reason="A destination with a key of its own is active."
            )
        if not self._destination_enabled and not created:
            return Capability(
                name=name,
                state="off",
                reason="ENABLE_POSTHOG_DESTINATION is off; engagement is recorded here only.",
                remediation="Set ENABLE_POSTHOG_DESTINATION=true.",
            )
        capturing = self._capture_capability(name, key)
        if capturing.state != "on":
            return capturing
        if not active:
            return Capability(
                name=name,
                state="off",
                reason="Every destination is paused."
                if destinations
                else "The destination has not been created yet.",
                remediation="POST /v1/admin/webhooks/{id}/resume."
                if destinations
                else "It is created in a moment; look at the analytics service's log.",
            )
        return Capability(name=name, state="on", reason="A destination is active.")


def _unknown(name: CapabilityName, error: HogsendError) -> Capability:
    """Report a capability as unknown because the credentials service did not reply."""
    reason, remediation = NOT_KNOWN, CHECK_STATUS
    if isinstance(error, Forbidden):
        reason, remediation = sentence(str(error)), f"{sentence(error.fix)} {CHECK_STATUS}"
    return Capability(name=name, state="unknown", reason=reason, remediation=remediation)


def _without_bearer(name: CapabilityName, bearer: TokenReply) -> Capability:
    fallback = "contact properties and the default time zone stand in."
    if bearer.not_refreshed:
        return Capability(
            name=name,
            state="off",
            reason=f"PostHog has not refreshed the access token yet ({bearer.not_refreshed}); "
            f"{fallback}",
            remediation="It is tried again every minute; `hogsend doctor` says what PostHog "
            "answers.",
        )
    return Capability(
        name=name,
        state="off",
        reason=f"There is neither a usable OAuth credential nor a personal API key; {fallback}",
        remediation="Run `hogsend connect posthog`, or set POSTHOG_PERSONAL_API_KEY; where "
        "one is connected, `hogsend doctor` says what PostHog answers.",
    )


def _count_unknown(kind: str, error: Exception) -> None:
    # Logged at debug level only: the report that the caller gets has the reason, too.
    FAILURES.labels("capabilities", kind).inc()
    log.debug("a capability is not known", kind=kind, reason=str(error))

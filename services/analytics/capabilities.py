"""Which rows of the degradation table work on this instance, and why the others do not."""

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
NOT_KNOWN = "The credentials service did not answer, so this is not known."
DIAGNOSE = "Run `hogsend doctor`: it says what to do."
LOOK = "Look at `hogsend status` and at the credentials service's log."

STORE_SECONDS = 2.0
"""How long a frozen PostgreSQL is waited for; who asks waits for five."""

Key: TypeAlias = Literal["known", "awaited", "absent"]
"""What is known of the project key; events wait for one that is `awaited`."""


class CapabilityReport:
    """Reports what the analytics service can do right now."""

    def __init__(
        self,
        trial: ReadTrial,
        project_key: ProjectKey,
        store: DestinationStore,
        *,
        destination_enabled: bool,
    ) -> None:
        """Look at these parts; `destination_enabled` is ENABLE_POSTHOG_DESTINATION."""
        self._trial = trial
        self._project_key = project_key
        self._store = store
        self._destination_enabled = destination_enabled
        self._destinations = SharedRead(self._read_destinations)

    async def capabilities(self) -> Capabilities:
        """Report every row; one that cannot be found out is `unknown` and affects no other."""
        key, reads, destinations = await asyncio.gather(
            self._key(), self._reads(), self._destinations.result(STORE_SECONDS)
        )
        return Capabilities(
            [
                self._capturing("eventCapture", key),
                self._capturing("personWrites", key),
                reads,
                self._engagement(key, destinations),
            ]
        )

    async def _key(self) -> Key | HogsendError:
        try:
            if await self._project_key.project() is not None:
                return "known"
            return "awaited" if await self._project_key.is_awaited() else "absent"
        except HogsendError as error:
            _not_known(error.code, error)
            return error

    def _capturing(self, name: CapabilityName, key: Key | HogsendError) -> Capability:
        if isinstance(key, HogsendError):
            return _unanswered(name, key)
        if key == "awaited":
            reason = (
                "PostHog was connected, and its project is not stored yet. Events wait for it, "
                f"{PROVISIONING_SECONDS / 60:.0f} minutes at most."
            )
            return Capability(name=name, state="off", reason=reason, remediation=PROVISION)
        if key == "absent":
            reason = "There is no project API key."
            return Capability(name=name, state="off", reason=reason, remediation=SET_KEY_OR_CONNECT)
        if self._project_key.from_environment:
            return Capability(name=name, state="on", reason="POSTHOG_API_KEY is set.")
        return Capability(
            name=name, state="on", reason="The project key stored by `connect posthog` is used."
        )

    async def _reads(self) -> Capability:
        """Try a read: a bearer alone does not tell whether PostHog takes it."""
        name: CapabilityName = "personReads"
        try:
            bearer = await self._trial.outcome()
        except HogsendError as error:
            _not_known(error.code, error)
            return _unanswered(name, error)
        except TimeoutError as error:
            _not_known("timeout", error)
            reason = "PostHog did not answer in time, so this is not known."
            return Capability(name=name, state="unknown", reason=reason, remediation=DIAGNOSE)
        except PostHogError as error:
            _not_known("posthog", error)
            if error.status is None:
                reason = f"{error.detail}, so this is not known."
                return Capability(name=name, state="unknown", reason=reason, remediation=DIAGNOSE)
            reason = f"PostHog answered {error.status} to a read: {error.detail}"
            return Capability(name=name, state="off", reason=reason, remediation=DIAGNOSE)
        if not bearer.token:
            return _without_bearer(name, bearer)
        through = "the OAuth credential" if bearer.source == "oauth" else "POSTHOG_PERSONAL_API_KEY"
        return Capability(name=name, state="on", reason=f"Persons are read through {through}.")

    async def _read_destinations(self) -> Sequence[Destination] | None:
        """Read the destinations; None when PostgreSQL does not answer."""
        try:
            return await self._store.all()
        except HogsendError as error:
            _not_known(error.code, error)
            return None

    def _engagement(
        self, key: Key | HogsendError, destinations: Sequence[Destination] | None
    ) -> Capability:
        name: CapabilityName = "engagementOut"
        if destinations is None:
            return Capability(
                name=name,
                state="unknown",
                reason="PostgreSQL did not answer, so this is not known.",
                remediation="Look at `hogsend status`.",
            )
        active = [one for one in destinations if not one.disabled]
        if any(not one.is_default and one.config.api_key for one in active):
            return Capability(
                name=name, state="on", reason="A destination with a key of its own is active."
            )
        has_own = any(not one.is_default for one in active)
        if not self._destination_enabled and not has_own:
            return Capability(
                name=name,
                state="off",
                reason="ENABLE_POSTHOG_DESTINATION is off; engagement is recorded here only.",
                remediation="Set ENABLE_POSTHOG_DESTINATION=true.",
            )
        capturing = self._capturing(name, key)
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


def _unanswered(name: CapabilityName, error: HogsendError) -> Capability:
    """The credentials service was not heard."""
    reason, remediation = NOT_KNOWN, LOOK
    if isinstance(error, Forbidden):
        reason, remediation = sentence(str(error)), f"{sentence(error.fix)} {LOOK}"
    return Capability(name=name, state="unknown", reason=reason, remediation=remediation)


def _without_bearer(name: CapabilityName, bearer: TokenReply) -> Capability:
    stand_in = "contact properties and the default time zone stand in."
    if bearer.not_refreshed:
        return Capability(
            name=name,
            state="off",
            reason=f"PostHog has not refreshed the access token yet ({bearer.not_refreshed}); "
            f"{stand_in}",
            remediation="It is tried again every minute; `hogsend doctor` says what PostHog "
            "answers.",
        )
    return Capability(
        name=name,
        state="off",
        reason=f"There is neither a usable OAuth credential nor a personal API key; {stand_in}",
        remediation="Run `hogsend connect posthog`, or set POSTHOG_PERSONAL_API_KEY; where "
        "one is connected, `hogsend doctor` says what PostHog answers.",
    )


def _not_known(kind: str, error: Exception) -> None:
    # The caller is told so, too.
    FAILURES.labels("capabilities", kind).inc()
    log.debug("a capability is not known", kind=kind, reason=str(error))

"""Determines the state of this instance's destination in PostHog, without changing it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from typing import Literal

import msgspec

from hogsend.contract.provisioning import Destination, DestinationFinding
from hogsend.posthog.api import HogFunction, HogFunctions
from hogsend.posthog.api.hog_functions import WatcherState
from hogsend.posthog.exchange import MAX_DETAIL
from services.provisioner.destination import signing
from services.provisioner.destination.candidates import candidates
from services.provisioner.destination.drift import STOPPING, find_drift
from services.provisioner.destination.ownership import Ownership
from services.provisioner.destination.posthog_errors import IN_POSTHOG_REMEDY, Step
from services.provisioner.destination.reconcile import dashboard_url
from services.provisioner.destination.webhook_url import is_placeholder, redacted_url

PROVISION = "Run `hogsend connect posthog --provision-only`."
SEE_LOGS = "See the destination's logs in PostHog, and `hogsend status`, for what failed."
RECOVER = f"{SEE_LOGS} PostHog ends it by itself once deliveries succeed."
REPAIR = f"{SEE_LOGS} Then enable it again: run `hogsend connect posthog --provision-only`."
ASK_POSTHOG = "Ask PostHog's support why, and to enable it again."


class DestinationProbe:
    """Probes the destinations of one project."""

    def __init__(
        self,
        private_host: str,
        project_id: str,
        ownership: Ownership,
        signing_secret: str | None = None,
        *,
        secrets_known: bool = True,
        expected: bool | None = False,
    ) -> None:
        """Probe a project.

        Args:
            private_host: PostHog's host, for links.
            project_id: the project.
            ownership: decides which destinations belong to this instance.
            signing_secret: the key to sign with, if there is one.
            secrets_known: False if the generated secrets could not be read, so that the
                destination's cannot be compared.
            expected: whether a destination was provisioned for the connection; None when unknown.
        """
        self._host = private_host
        self._project_id = project_id
        self._ownership = ownership
        self._signing_secret = signing_secret
        self._secrets_known = secrets_known
        # A missing destination counts as stopped only if it was provisioned before. Otherwise the
        # operator may not want one.
        self._expected = expected
        self.step = Step.COLLECTION
        """The current request, which determines the meaning of a `PostHogError`."""
        self.live: DestinationFinding | None = None
        """The live destination of this instance. Set before `find` returns, so that it is known
        when a later request fails."""

    async def find(self, functions: HogFunctions) -> DestinationFinding:
        """Describe this instance's destination, and list the others.

        If there are several, a live one is described.

        Raises:
            PostHogError: PostHog refused a request or could not be reached.
        """
        own: DestinationFinding | None = None
        foreign: HogFunction | None = None
        others: list[Destination] = []
        enabled: list[Destination] = []
        provisioned = self._ownership.provisioned.keys()
        async with aclosing(candidates(functions, self._at_step, provisioned)) as destinations:
            async for function in destinations:
                if not await self._ownership.is_own(function):
                    foreign = foreign or function
                    others.append(self._listed(function))
                    continue
                if function.enabled:
                    enabled.append(self._listed(function))
                finding = self._describe(function)
                if finding.state == "live":
                    self.live = self.live or finding
                own = own or finding
        if (best := self.live or own) is not None:
            duplicates = [
                destination
                for destination in enabled
                if destination.hog_function_id != best.hog_function_id
            ]
            return msgspec.structs.replace(best, others=others, duplicates=duplicates)
        if foreign is not None:
            return self._finding(
                foreign,
                "elsewhere",
                "The project's destination delivers to another Hogsend instance; this one has "
                "none.",
                stopped=self._expected,
            )
        cause = "The destination that was set up here is gone: " if self._expected else ""
        return DestinationFinding(
            state="missing",
            stopped=self._expected,
            detail=f"{cause}PostHog has no destination that delivers here.",
            remediation=PROVISION,
        )

    def _describe(self, function: HogFunction) -> DestinationFinding:
        ownership = self._ownership
        drift = [
            *find_drift(function, ownership.webhook_url, ownership.secret),
            *signing.find_drift(function, self._signing_secret),
        ]
        if is_placeholder(function.input("url")):
            detail = "The destination is a placeholder: it has no real URL and is disabled."
            return self._finding(function, "placeholder", detail)
        if function.enabled and function.watcher_state is WatcherState.BLOCKED:
            detail = "PostHog's staff disabled the destination: nothing is delivered."
            return self._finding(function, "disabled_by_posthog", detail, ASK_POSTHOG)
        if function.enabled and function.watcher_state is WatcherState.DISABLED:
            detail = "PostHog disabled the destination: deliveries failed or were slow for long."
            return self._finding(function, "disabled_by_posthog", detail, REPAIR)
        if not drift and function.watcher_state is WatcherState.DEGRADED:
            detail = "PostHog has degraded the destination: events arrive late, since deliveries "
            return self._finding(function, "degraded", detail + "failed or were slow.", RECOVER)
        stopped: bool | None = function.enabled and not STOPPING.isdisjoint(drift)
        if not stopped and not self._secrets_known:
            stopped = None
        if not drift:
            return self._finding(function, "live", None, None, stopped=stopped)
        detail, remedy = f"The destination has drifted: {', '.join(drift)}.", PROVISION
        if not function.filters_compile and (error := function.filters.get("bytecode_error")):
            detail += f" PostHog says: {str(error)[:MAX_DETAIL]}"
            # Provisioning again would not help: PostHog would fail to compile the filters again.
            remedy = IN_POSTHOG_REMEDY
        return self._finding(
            function,
            "drifted" if function.enabled else "disabled",
            detail,
            remedy,
            stopped=stopped,
        )

    def _listed(self, function: HogFunction) -> Destination:
        return Destination(
            hog_function_id=function.id,
            webhook_url=redacted_url(function.input("url")),
            dashboard_url=dashboard_url(self._host, self._project_id, function.id),
        )

    def _finding(
        self,
        function: HogFunction,
        state: Literal[
            "live",
            "degraded",
            "disabled",
            "disabled_by_posthog",
            "drifted",
            "placeholder",
            "elsewhere",
        ],
        detail: str | None,
        remediation: str | None = PROVISION,
        *,
        stopped: bool | None = False,
    ) -> DestinationFinding:
        reason = signing.unsigned_reason(function, self._signing_secret)
        return DestinationFinding(
            state=state,
            stopped=stopped,
            signed=None if state == "elsewhere" else reason is None,
            unsigned_because=None if state == "elsewhere" else reason,
            hog_function_id=function.id,
            webhook_url=redacted_url(function.input("url")),
            dashboard_url=dashboard_url(self._host, self._project_id, function.id),
            detail=detail,
            remediation=remediation,
        )

    @contextmanager
    def _at_step(self, step: Step) -> Iterator[None]:
        self.step = step
        yield

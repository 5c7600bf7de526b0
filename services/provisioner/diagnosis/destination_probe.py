"""The state of our destination in PostHog, found by the rules of provisioning but only read."""

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
from services.provisioner.destination.drift import STOPS, find_drift
from services.provisioner.destination.errors import IN_POSTHOG_REMEDY, Step
from services.provisioner.destination.ownership import Ownership
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
            private_host: PostHog's address, for links.
            project_id: the project.
            ownership: tells which destinations are ours.
            signing_secret: the key to sign with, if there is one.
            secrets_known: False while what was minted cannot be read, and so not be compared.
            expected: whether a destination was set up for the connection; None when not known.
        """
        self._host = private_host
        self._project_id = project_id
        self._ownership = ownership
        self._signing_secret = signing_secret
        self._secrets_known = secrets_known
        # What was set up and is gone has stopped; what never was may be meant.
        self._expected = expected
        self.step = Step.COLLECTION
        """The request under way; it decides what a `PostHogError` means."""
        self.live: DestinationFinding | None = None
        """Ours as soon as it was found to be live, while others are still looked at."""

    async def find(self, functions: HogFunctions) -> DestinationFinding:
        """Describe our destination; a live one takes precedence over all others, which are listed.

        Raises:
            PostHogError: PostHog refused a request or could not be reached.
        """
        ours: DestinationFinding | None = None
        elsewhere: HogFunction | None = None
        others: list[Destination] = []
        enabled: list[Destination] = []
        known = self._ownership.provisioned.keys()
        async with aclosing(candidates(functions, self._during, known)) as found:
            async for function in found:
                if not await self._ownership.is_ours(function):
                    elsewhere = elsewhere or function
                    others.append(self._listed(function))
                    continue
                if function.enabled:
                    enabled.append(self._listed(function))
                finding = self._describe(function)
                if finding.state == "live":
                    self.live = self.live or finding
                ours = ours or finding
        if (best := self.live or ours) is not None:
            further = [one for one in enabled if one.hog_function_id != best.hog_function_id]
            return msgspec.structs.replace(best, others=others, duplicates=further)
        if elsewhere is not None:
            return self._finding(
                elsewhere,
                "elsewhere",
                "The project's destination delivers to another Hogsend instance; this one has "
                "none.",
                stopped=self._expected,
            )
        gone = "The destination that was set up here is gone: " if self._expected else ""
        return DestinationFinding(
            state="missing",
            stopped=self._expected,
            detail=f"{gone}PostHog has no destination that delivers here.",
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
        stopped: bool | None = function.enabled and not STOPS.isdisjoint(drift)
        if not stopped and not self._secrets_known:
            stopped = None
        if not drift:
            return self._finding(function, "live", None, None, stopped=stopped)
        detail, remedy = f"The destination has drifted: {', '.join(drift)}.", PROVISION
        if not function.filters_compile and (why := function.filters.get("bytecode_error")):
            detail += f" PostHog says: {str(why)[:MAX_DETAIL]}"
            # Saving them again, by itself, ends as it did before.
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
        unsigned = signing.why_unsigned(function, self._signing_secret)
        return DestinationFinding(
            state=state,
            stopped=stopped,
            signed=None if state == "elsewhere" else unsigned is None,
            unsigned_because=None if state == "elsewhere" else unsigned,
            hog_function_id=function.id,
            webhook_url=redacted_url(function.input("url")),
            dashboard_url=dashboard_url(self._host, self._project_id, function.id),
            detail=detail,
            remediation=remediation,
        )

    @contextmanager
    def _during(self, step: Step) -> Iterator[None]:
        self.step = step
        yield

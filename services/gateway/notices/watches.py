"""The checks for problems. Each one queries the service that knows about the problem."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

import structlog

from hogsend.contract.base import Empty
from hogsend.contract.credentials import CREDENTIALS_STATUS, POSTHOG, ProviderRef
from hogsend.contract.dead_letters import INGEST_DEAD_LETTERS, ListDeadLetters
from hogsend.contract.errors import HogsendError
from hogsend.contract.notices import ANALYTICS_FAILING, NoticeKind
from hogsend.contract.provisioning import PROVISIONER_DIAGNOSE
from hogsend.service.metrics import FAILURES
from hogsend.transport.connection import Connection
from services.gateway.notices.notice import Problem
from services.gateway.workers.link import Workers

log = structlog.get_logger(__name__)

CHECK_SECONDS = 15.0
POSTHOG_SECONDS = 120.0
"""Interval of the checks that send requests to PostHog, which count to its rate limit."""
SPOOL_SECONDS = 5.0
"""Interval of the checks of the gateway's own spool."""

Problems = Mapping[str, Problem] | None
"""All current problems of one kind, by subject. None if they are not known now."""

SLOWED = "PostHog slowed the destination down: deliveries fail or are slow, and events arrive late."


@dataclass(frozen=True)
class Watch:
    """A periodic check for problems of one kind."""

    kind: NoticeKind
    seconds: float
    """Interval of the check."""
    query: Callable[[], Awaitable[Problems]]
    """Queries the service that knows. Raises `HogsendError` if it does not reply."""
    local: bool = False
    """Whether the problem concerns only this gateway. Its notices then need no claim by ingest."""

    async def check(self) -> Problems:
        """Return the current problems, or None if the service does not reply."""
        try:
            return await self.query()
        except HogsendError as error:
            FAILURES.labels("notices", error.code).inc()
            log.debug("a check for problems failed", kind=self.kind, reason=str(error))
            return None


def watches(bus: Connection, workers: Workers, *, failing_seconds: float) -> list[Watch]:
    """Return all checks."""
    return [
        Watch("spool.in_use", SPOOL_SECONDS, Lasting(partial(_spool, workers)).check, local=True),
        Watch("credential.needs_reconnect", CHECK_SECONDS, partial(_credential, bus)),
        Watch("dead_letters.waiting", CHECK_SECONDS, partial(_dead_letters, bus)),
        Watch("destination.failing", CHECK_SECONDS, partial(_failing, bus, failing_seconds)),
        Watch("destination.disabled", POSTHOG_SECONDS, Lasting(partial(_disabled, bus)).check),
    ]


class Lasting:
    """Reports a problem only if two checks in a row find it.

    A single slow acknowledgement makes the gateway use its spool for a moment. And while a webhook
    secret is changed, the destination in PostHog has another secret for a moment.
    """

    def __init__(self, query: Callable[[], Awaitable[Problems]]) -> None:
        """Wrap `query`, which returns at most one problem."""
        self._query = query
        self._was_found = False

    async def check(self) -> Problems:
        """Return the problem if it lasts; None after the first check that finds it."""
        problems = await self._query()
        if problems is None:
            return None
        was_found, self._was_found = self._was_found, bool(problems)
        # None rather than empty: a notice that was sent before a restart must not be resolved.
        return problems if was_found or not problems else None


async def _spool(workers: Workers) -> Problems:
    waiting = await workers.waiting()
    if not waiting:
        return None if waiting is None else {}
    detail = f"JetStream does not accept webhooks: {waiting} wait in the spool."
    remedy = "Check NATS: docs/runbooks/HogsendSpoolUsed.md."
    return {socket.gethostname(): Problem(detail, remedy)}


async def _credential(bus: Connection) -> Problems:
    status = await bus.request(CREDENTIALS_STATUS, ProviderRef(provider_id=POSTHOG))
    if status.oauth == "unreadable":
        detail = "The stored OAuth credential cannot be unsealed."
        return {POSTHOG: Problem(detail, "Restore BETTER_AUTH_SECRET, or connect again.")}
    if status.webhook_secret == "unreadable":  # noqa: S105 - a state
        detail = "The secrets that were generated when PostHog was connected cannot be unsealed."
        remedy = (
            "Restore BETTER_AUTH_SECRET; or run `hogsend disconnect posthog`, then `hogsend "
            "connect posthog`."
        )
        return {POSTHOG: Problem(detail, remedy)}
    if status.needs_reconnect:
        detail = "PostHog no longer accepts the stored OAuth credential."
        return {POSTHOG: Problem(detail, "Run `hogsend connect posthog`.")}
    return {}


async def _dead_letters(bus: Connection) -> Problems:
    total = (await bus.request(INGEST_DEAD_LETTERS, ListDeadLetters(limit=1))).total
    if not total:
        return {}
    detail = (
        "1 message could not be processed and waits as a dead letter."
        if total == 1
        else f"{total} messages could not be processed and wait as dead letters."
    )
    return {"dead-letters": Problem(detail, "Run `hogsend dlq list`.")}


async def _failing(bus: Connection, seconds: float) -> Problems:
    failing = (await bus.request(ANALYTICS_FAILING, Empty())).failing
    now = datetime.now(UTC)
    return {
        delivery.subject: Problem(
            f"PostHog has accepted no event of {delivery.subject} since "
            f"{delivery.since:%Y-%m-%dT%H:%M:%SZ}.",
            _remedy_for(delivery.subject),
        )
        for delivery in failing
        if (now - delivery.since).total_seconds() >= seconds
    }


def _remedy_for(subject: str) -> str:
    """Return how to find the cause. Only destinations, whose ids are UUIDs, have a history."""
    try:
        UUID(subject)
    except ValueError:
        return "Run `hogsend doctor`, and look at docs/runbooks/HogsendDestinationFailing.md."
    return f"Look at its deliveries: GET /v1/admin/webhooks/{subject}/deliveries."


async def _disabled(bus: Connection) -> Problems:
    diagnosis = await bus.request(PROVISIONER_DIAGNOSE, Empty())
    finding = diagnosis.destination
    if diagnosis.credential.state == "absent" and diagnosis.person_reads.state == "off":
        # PostHog was disconnected, so its destination cannot be checked, and no longer matters.
        return {}
    if finding.state not in {"disabled", "disabled_by_posthog", "degraded"} and not finding.stopped:
        return None if finding.state == "unknown" or finding.stopped is None else {}
    detail = (
        SLOWED if finding.state == "degraded" else finding.detail or "It does not deliver any more."
    )
    # The same subject for all states: a destination that is deleted after it was disabled is still
    # the same problem.
    return {POSTHOG: Problem(detail, finding.remediation or "Run `hogsend doctor`.")}

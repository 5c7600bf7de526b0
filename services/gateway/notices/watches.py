"""The problems that are looked for, each by asking a service. None: it did not answer."""

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

LOOK_SECONDS = 15.0
POSTHOG_SECONDS = 120.0
"""How often PostHog is asked how it does with the destination; it counts requests."""
SPOOL_SECONDS = 5.0
"""How often a gateway looks at its own spool."""

Found = Mapping[str, Problem] | None
"""Every problem of a kind, by subject; None when that cannot be known now."""

SLOWED = "PostHog slowed the destination down: deliveries fail or are slow, and events arrive late."


@dataclass(frozen=True)
class Watch:
    """Looks for problems of one kind."""

    kind: NoticeKind
    seconds: float
    """How long between two looks."""
    ask: Callable[[], Awaitable[Found]]
    """Asks the service that knows; raises `HogsendError` when that does not answer."""
    local: bool = False
    """Whether it concerns this gateway alone, and is told without asking anybody."""

    async def look(self) -> Found:
        """Ask what there is; None when there is no answer."""
        try:
            return await self.ask()
        except HogsendError as error:
            FAILURES.labels("notices", error.code).inc()
            log.debug("problems cannot be looked for", kind=self.kind, reason=str(error))
            return None


def watches(bus: Connection, workers: Workers, *, failing_seconds: float) -> list[Watch]:
    """Everything that is told."""
    return [
        Watch("spool.in_use", SPOOL_SECONDS, Lasting(partial(_spool, workers)).look, local=True),
        Watch("credential.needs_reconnect", LOOK_SECONDS, partial(_credential, bus)),
        Watch("dead_letters.waiting", LOOK_SECONDS, partial(_dead_letters, bus)),
        Watch("destination.failing", LOOK_SECONDS, partial(_failing, bus, failing_seconds)),
        Watch("destination.disabled", POSTHOG_SECONDS, Lasting(partial(_disabled, bus)).look),
    ]


class Lasting:
    """A problem at two looks in a row; at the first one it is not known whether it lasts.

    One slow acknowledgement fills and empties a spool, and a destination sends another secret than
    ours for as long as it takes to change it.
    """

    def __init__(self, ask: Callable[[], Awaitable[Found]]) -> None:
        """Ask `ask`, which finds one problem at most."""
        self._ask = ask
        self._was_found = False

    async def look(self) -> Found:
        """Look at it."""
        found = await self._ask()
        if found is None:
            return None
        was_found, self._was_found = self._was_found, bool(found)
        # One from before this process began may have been told: it is not over, either.
        return found if was_found or not found else None


async def _spool(workers: Workers) -> Found:
    waiting = await workers.waiting()
    if not waiting:
        return None if waiting is None else {}
    detail = f"JetStream does not take webhooks: {waiting} wait in the spool."
    remedy = "Look at NATS: docs/runbooks/HogsendSpoolUsed.md."
    return {socket.gethostname(): Problem(detail, remedy)}


async def _credential(bus: Connection) -> Found:
    status = await bus.request(CREDENTIALS_STATUS, ProviderRef(provider_id=POSTHOG))
    if status.oauth == "unreadable":
        detail = "The stored OAuth credential cannot be unsealed."
        return {POSTHOG: Problem(detail, "Restore BETTER_AUTH_SECRET, or connect again.")}
    if status.webhook_secret == "unreadable":  # noqa: S105 - a state
        detail = "What was minted when PostHog was connected cannot be unsealed."
        remedy = (
            "Restore BETTER_AUTH_SECRET; or run `hogsend disconnect posthog`, then `hogsend "
            "connect posthog`."
        )
        return {POSTHOG: Problem(detail, remedy)}
    if status.needs_reconnect:
        detail = "PostHog takes the stored OAuth credential no longer."
        return {POSTHOG: Problem(detail, "Run `hogsend connect posthog`.")}
    return {}


async def _dead_letters(bus: Connection) -> Found:
    total = (await bus.request(INGEST_DEAD_LETTERS, ListDeadLetters(limit=1))).total
    if not total:
        return {}
    detail = (
        "1 message could not be processed and waits as a dead letter."
        if total == 1
        else f"{total} messages could not be processed and wait as dead letters."
    )
    return {"dead-letters": Problem(detail, "Run `hogsend dlq list`.")}


async def _failing(bus: Connection, seconds: float) -> Found:
    failing = (await bus.request(ANALYTICS_FAILING, Empty())).failing
    now = datetime.now(UTC)
    return {
        one.subject: Problem(
            f"PostHog has taken no event of {one.subject} since {one.since:%Y-%m-%dT%H:%M:%SZ}.",
            _remedy_for(one.subject),
        )
        for one in failing
        if (now - one.since).total_seconds() >= seconds
    }


def _remedy_for(subject: str) -> str:
    """A destination has a history of deliveries; the mirror and other consumers have none."""
    try:
        UUID(subject)
    except ValueError:
        return "Run `hogsend doctor`, and look at docs/runbooks/HogsendDestinationFailing.md."
    return f"Look at its deliveries: GET /v1/admin/webhooks/{subject}/deliveries."


async def _disabled(bus: Connection) -> Found:
    diagnosis = await bus.request(PROVISIONER_DIAGNOSE, Empty())
    found = diagnosis.destination
    if diagnosis.credential.state == "absent" and diagnosis.person_reads.state == "off":
        # PostHog is not connected any more, and cannot be asked.
        return {}
    if found.state not in {"disabled", "disabled_by_posthog", "degraded"} and not found.stopped:
        return None if found.state == "unknown" or found.stopped is None else {}
    detail = SLOWED if found.state == "degraded" else found.detail or "It delivers no more."
    # One that is deleted after it was disabled is the same problem, and not the end of one.
    return {POSTHOG: Problem(detail, found.remediation or "Run `hogsend doctor`.")}

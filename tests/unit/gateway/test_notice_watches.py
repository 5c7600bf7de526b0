"""What counts as a problem of each kind of notice (ADR 23)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import AsyncMock, Mock
from uuid import uuid4

import msgspec
import pytest

from hogsend.contract.credentials import CREDENTIALS_STATUS, CredentialStatus
from hogsend.contract.dead_letters import INGEST_DEAD_LETTERS, DeadLetterPage
from hogsend.contract.notices import ANALYTICS_FAILING, FailingDeliveries, FailingDelivery
from hogsend.contract.provisioning import (
    PROVISIONER_DIAGNOSE,
    CredentialFinding,
    DestinationFinding,
    ReadsFinding,
)
from services.gateway.notices.watches import Problems, watches
from tests.unit.gateway.fakes import FakeConnection


class Services:
    """Services whose replies a test sets, and the watches that query them."""

    def __init__(self) -> None:
        self.bus = FakeConnection()
        self.workers: Any = Mock()
        self.watches = {
            watch.kind: watch for watch in watches(self.bus, self.workers, failing_seconds=600)
        }

    async def check(self, kind: Any) -> Problems:
        return await self.watches[kind].check()


@pytest.fixture
def services() -> Services:
    return Services()


@pytest.mark.parametrize("waiting", [1, 2])
async def test_a_short_use_of_the_spool_is_not_reported(services: Services, waiting: int) -> None:
    async def check(waiting_now: int | None) -> Problems:
        services.workers.waiting = AsyncMock(return_value=waiting_now)
        return await services.check("spool.in_use")

    # Nor is a problem that an earlier process reported resolved: the first result is unknown.
    assert await check(waiting) is None
    assert await check(waiting)
    assert await check(0) == {}
    assert await check(waiting) is None
    assert await check(None) is None
    [problem] = (await check(waiting) or {}).values()
    assert f"{waiting} wait" in problem.detail


KINDS = (
    *("credential.needs_reconnect", "dead_letters.waiting"),
    *("destination.failing", "destination.disabled"),
)


@pytest.mark.parametrize("kind", KINDS)
async def test_the_problems_of_a_service_that_does_not_reply_are_unknown(
    services: Services, kind: str
) -> None:
    assert await services.check(kind) is None


@pytest.mark.parametrize(
    ("oauth", "minted", "needs_reconnect", "is_problem"),
    [
        ("present", "absent", False, False),
        ("present", "present", True, True),
        ("unreadable", "unreadable", False, True),
        # After a new grant was stored, or with a personal key: every webhook is answered 503.
        ("present", "unreadable", False, True),
        ("absent", "unreadable", False, True),
    ],
)
async def test_a_credential_is_a_problem_when_it_needs_reconnecting_or_is_unreadable(
    services: Services, oauth: Any, minted: Any, needs_reconnect: bool, is_problem: bool
) -> None:
    status = CredentialStatus(
        version=1, oauth=oauth, scopes=[], webhook_secret=minted, needs_reconnect=needs_reconnect
    )
    services.bus.reply_with(CREDENTIALS_STATUS, status)
    problems = await services.check("credential.needs_reconnect")
    # None would mean unknown, and the problem would never be resolved.
    assert problems is not None
    assert bool(problems) is is_problem


async def test_waiting_dead_letters_are_a_problem_with_their_number(services: Services) -> None:
    services.bus.reply_with(INGEST_DEAD_LETTERS, DeadLetterPage(dead_letters=[], total=0))
    assert await services.check("dead_letters.waiting") == {}
    services.bus.reply_with(INGEST_DEAD_LETTERS, DeadLetterPage(dead_letters=[], total=3))
    problems = await services.check("dead_letters.waiting") or {}
    assert problems["dead-letters"].detail.startswith("3 messages could")
    services.bus.reply_with(INGEST_DEAD_LETTERS, DeadLetterPage(dead_letters=[], total=1))
    problems = await services.check("dead_letters.waiting") or {}
    assert problems["dead-letters"].detail.startswith("1 message could")


async def test_a_destination_is_a_problem_after_it_failed_for_the_configured_time(
    services: Services,
) -> None:
    now = datetime.now(UTC)
    destination = str(uuid4())
    failing = [
        FailingDelivery(destination, now - timedelta(seconds=601)),
        FailingDelivery("mirror", now - timedelta(seconds=601)),
        FailingDelivery("short", now - timedelta(seconds=300)),
    ]
    services.bus.reply_with(ANALYTICS_FAILING, FailingDeliveries(failing))
    problems = await services.check("destination.failing") or {}
    assert problems.keys() == {destination, "mirror"}
    # The remediation names a URL that exists: only destinations have deliveries to list.
    assert f"/v1/admin/webhooks/{destination}/deliveries" in (
        problems[destination].remediation or ""
    )
    assert "/v1/admin/webhooks" not in (problems["mirror"].remediation or "")


def diagnosed(
    destination: DestinationFinding, credential: Any = "present", reads: Any = "working"
) -> Any:
    class Diagnosed(msgspec.Struct):
        destination: DestinationFinding
        credential: CredentialFinding
        person_reads: ReadsFinding

    read = ReadsFinding(state=reads, through="none" if reads == "off" else "oauth")
    return Diagnosed(destination, CredentialFinding(state=credential), read)


@pytest.mark.parametrize(
    ("finding", "expected"),
    [
        (DestinationFinding(state="live"), set()),
        (DestinationFinding(state="unknown"), None),
        (DestinationFinding(state="disabled_by_posthog", hog_function_id="f1"), {"posthog"}),
        (DestinationFinding(state="disabled", hog_function_id="f1"), {"posthog"}),
        (DestinationFinding(state="degraded", hog_function_id="f1"), {"posthog"}),
        # PostHog sends another webhook secret; or only the filter of identified persons is missing.
        (DestinationFinding(state="drifted", hog_function_id="f1", stopped=True), {"posthog"}),
        (DestinationFinding(state="drifted", hog_function_id="f1"), set()),
        # The destination was deleted; or it never existed.
        (DestinationFinding(state="missing", stopped=True), {"posthog"}),
        (DestinationFinding(state="missing"), set()),
        # The expected state cannot be read: neither a problem nor the end of one.
        (DestinationFinding(state="live", stopped=None), None),
        (DestinationFinding(state="missing", stopped=None), None),
        (DestinationFinding(state="disabled_by_posthog", stopped=None), {"posthog"}),
    ],
)
async def test_a_disabled_degraded_or_stopped_destination_is_a_problem_at_the_second_check(
    services: Services, finding: DestinationFinding, expected: set[str] | None
) -> None:
    services.bus.reply_with(PROVISIONER_DIAGNOSE, diagnosed(finding))
    first, second = [await services.check("destination.disabled") for _ in range(2)]
    assert (None if second is None else set(second)) == expected
    # The first check reports nothing: its webhook secret may be changing at this moment.
    assert first == (None if expected else second)


@pytest.mark.parametrize(
    ("credential", "reads", "is_over"),
    [("absent", "off", True), ("absent", "working", False), ("unknown", "unknown", False)],
)
async def test_a_problem_of_the_destination_is_resolved_when_posthog_is_disconnected(
    services: Services, credential: Any, reads: Any, is_over: bool
) -> None:
    unknown = DestinationFinding(state="unknown")
    services.bus.reply_with(PROVISIONER_DIAGNOSE, diagnosed(unknown, credential, reads))
    assert await services.check("destination.disabled") == ({} if is_over else None)

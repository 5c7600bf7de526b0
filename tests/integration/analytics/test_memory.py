"""Analytics stays within its memory limit while PostHog is unavailable and captures wait."""

from __future__ import annotations

import pytest
from nats.js.errors import NotFoundError

from benchmarks.processes import process
from hogsend.contract.consumers import PERSONS
from hogsend.contract.streams import MIB, StreamName
from hogsend.contract.users import User
from hogsend.service import streams
from hogsend.transport.connection import Connection
from tests.capture_recorder import CaptureRecorder, Reply, capture_recorder
from tests.integration.analytics.sending import KEY
from tests.integration.harness import client, connected
from tests.servers import Servers
from tests.waiting import eventually

CAPTURES = 300
MEMORY = 512 * MIB
"""The memory limit of a service in the deployments, in bytes."""
REFUSALS = 10
LIMITED = (
    "import resource, sys; "
    f"resource.setrlimit(resource.RLIMIT_DATA, ({MEMORY}, {MEMORY})); "
    "from cli.main import main; sys.argv = ['hogsend', 'serve', 'analytics']; main()"
)

pytestmark = pytest.mark.usefixtures("fresh_bus")


async def test_300_captures_of_1_mb_are_delivered_after_an_outage_within_512_mib(
    servers: Servers, database_url: str
) -> None:
    async with (
        capture_recorder() as posthog,
        connected(servers, User.ANALYTICS) as analytics,
        connected(servers, User.OPERATOR) as operator,
        client(servers, User.APP) as member,
    ):
        await streams.reconcile(analytics.js, User.ANALYTICS)
        for number in range(CAPTURES):
            properties = {"n": number, "text": "x" * 1_000_000}
            await member.capture("large", f"u_{number}", properties)

        is_unavailable = True
        posthog.respond = lambda _batch: Reply(503) if is_unavailable else None
        variables = {
            "NATS_URL": servers.nats_url(User.ANALYTICS),
            "DATABASE_URL": database_url,
            "POSTHOG_API_KEY": KEY,
            "POSTHOG_HOST": posthog.url,
            "OUTBOUND_WEBHOOK_BASE_DELAY_MS": "50",
            "OUTBOUND_WEBHOOK_MAX_DELAY_MS": "100",
            "OUTBOUND_WEBHOOK_MAX_ATTEMPTS": "100",
        }
        async with process("-c", LIMITED, **variables) as limited:
            await eventually(StoppedReading(operator, posthog), 60)
            is_unavailable = False
            await eventually(lambda: _is_empty(operator), 60)
            assert limited.returncode is None
    assert {event["properties"]["n"] for event in posthog.events} == set(range(CAPTURES))


class StoppedReading:
    """Whether analytics read no further message while PostHog refused `REFUSALS` requests."""

    def __init__(self, operator: Connection, posthog: CaptureRecorder) -> None:
        self._operator, self._posthog = operator, posthog
        self._read, self._refused = 0, 0

    async def __call__(self) -> bool:
        refused = len(self._posthog.requests)
        try:
            info = await self._operator.js.consumer_info(StreamName.PERSONS, PERSONS)
        except NotFoundError:
            return False
        read = info.delivered.stream_seq if info.delivered else 0
        if read != self._read:
            self._read, self._refused = read, refused
        return read > 0 and refused - self._refused >= REFUSALS


async def _is_empty(operator: Connection) -> bool:
    return (await operator.js.stream_info(StreamName.PERSONS)).state.messages == 0

"""Analytics is killed with SIGKILL while it delivers: no event is lost or out of order."""

from __future__ import annotations

import asyncio
from collections import defaultdict

import pytest
from nats.js.errors import NotFoundError

from benchmarks.processes import process
from hogsend.contract.streams import StreamName
from hogsend.contract.users import User
from hogsend.service import streams
from hogsend.transport.connection import Connection
from tests.capture_recorder import Batch, CaptureRecorder, Reply, Responder, capture_recorder
from tests.integration.analytics.sending import KEY
from tests.integration.harness import client, connected
from tests.servers import Servers
from tests.waiting import eventually, more_than

EVENTS = 3000
PEOPLE = 50

pytestmark = pytest.mark.usefixtures("fresh_bus")


async def test_a_killed_replica_loses_no_event_and_keeps_the_order_of_each_person(
    servers: Servers, database_url: str
) -> None:
    async with (
        capture_recorder() as posthog,
        connected(servers, User.INGEST) as ingest,
        connected(servers, User.OPERATOR) as operator,
        client(servers, User.APP) as member,
    ):
        await streams.reconcile(ingest.js, User.INGEST)
        # Some responses are lost after the events were stored, so these events are sent again.
        posthog.respond = _lose_every_third_response(posthog)
        posthog.gate.clear()
        variables = {
            "NATS_URL": servers.nats_url(User.ANALYTICS),
            "DATABASE_URL": database_url,
            "POSTHOG_API_KEY": KEY,
            "POSTHOG_HOST": posthog.url,
            "OUTBOUND_WEBHOOK_BASE_DELAY_MS": "20",
        }
        command = ("-m", "cli.main", "serve", "analytics")

        async def report() -> None:
            await eventually(lambda: _exists(operator))
            # One task publishes, so each person's events are in the order of their numbers.
            for number in range(EVENTS):
                await member.capture("e", f"u_{number % PEOPLE}", {"n": number})

        reporting = asyncio.create_task(report())
        async with process(*command, **variables) as victim:
            posthog.gate.set()
            await eventually(more_than(len(posthog.batches), posthog.batches), 60)
            posthog.gate.clear()
            victim.kill()
        posthog.gate.set()
        async with process(*command, **variables):
            await reporting
            await eventually(lambda: len({event["uuid"] for event in posthog.events}) == EVENTS, 60)
            await eventually(lambda: _is_empty(operator))
    firsts: dict[str, list[int]] = defaultdict(list)
    seen: set[str] = set()
    for event in posthog.events:
        if event["uuid"] not in seen:
            seen.add(event["uuid"])
            firsts[event["distinct_id"]].append(event["properties"]["n"])
    assert len(seen) == EVENTS
    assert all(numbers == sorted(numbers) for numbers in firsts.values())


def _lose_every_third_response(posthog: CaptureRecorder) -> Responder:
    """Store every third batch without a response."""

    def respond(_batch: Batch) -> Reply | None:
        return Reply(0, stores=True) if len(posthog.requests) % 3 == 0 else None

    return respond


async def _exists(operator: Connection) -> bool:
    try:
        await operator.js.stream_info(StreamName.PERSONS)
    except NotFoundError:
        return False
    return True


async def _is_empty(operator: Connection) -> bool:
    return bool((await operator.js.stream_info(StreamName.PERSONS)).state.messages == 0)

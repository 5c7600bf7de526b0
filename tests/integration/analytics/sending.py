"""Runs the part of analytics that delivers to PostHog, in the test process, on real servers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
from nats.js.errors import NotFoundError

from hogsend.client.client import Client
from hogsend.contract.dead_letters import DeadLetter
from hogsend.contract.streams import StreamName
from hogsend.contract.users import User
from hogsend.service import streams
from hogsend.transport.connection import Connection
from services.analytics.destinations.store import DestinationStore
from tests.integration.harness import analytics_service, client, connected
from tests.servers import Servers
from tests.waiting import eventually

KEY = "phc_test"
FAST = {"outbound_webhook_base_delay_ms": 1}


@dataclass
class Sending:
    """A replica that delivers to PostHog, a client that publishes, and an operator's connection."""

    member: Client
    operator: Connection
    store: DestinationStore

    async def messages_in(self, stream: StreamName) -> int:
        """Count the messages that are still in a stream."""
        return int((await self.operator.js.stream_info(stream)).state.messages)

    async def letters(self) -> list[DeadLetter]:
        """Read every dead letter."""
        state = (await self.operator.js.stream_info(StreamName.DEADLETTER)).state
        letters = []
        for sequence in range(max(state.first_seq, 1), state.last_seq + 1):
            try:
                message = await self.operator.js.get_msg(StreamName.DEADLETTER, sequence)
            except NotFoundError:
                continue
            letters.append(msgspec.json.decode(message.data or b"", type=DeadLetter))
        return letters


@asynccontextmanager
async def replica(
    servers: Servers,
    database_url: str,
    *,
    posthog: dict[str, Any],
    settings: dict[str, Any] | None = None,
) -> AsyncIterator[DestinationStore]:
    """Run one replica, which sends as soon as it leads."""
    fast = {**FAST, **(settings or {})}
    async with analytics_service(
        servers, database_url, posthog=posthog, settings=fast
    ) as analytics:
        yield DestinationStore(analytics.database)


async def streams_of_ingest(servers: Servers) -> None:
    """Create the streams that ingest owns."""
    async with connected(servers, User.INGEST) as ingest:
        await streams.reconcile(ingest.js, User.INGEST)


@asynccontextmanager
async def sending(
    servers: Servers,
    database_url: str,
    host: str,
    *,
    posthog: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
) -> AsyncIterator[Sending]:
    """Run one replica that captures at `host`, on a bus without messages."""
    environment = {"posthog_api_key": KEY, "posthog_host": host, **(posthog or {})}
    await streams_of_ingest(servers)
    async with (
        client(servers, User.APP) as member,
        connected(servers, User.OPERATOR) as operator,
        replica(servers, database_url, posthog=environment, settings=settings) as store,
    ):
        yield Sending(member, operator, store)


async def until_consumed(sending: Sending, stream: StreamName, durable: str) -> None:
    """Wait until a consumer has handled all messages that were published before."""

    async def idle() -> bool:
        try:
            info = await sending.operator.js.consumer_info(stream, durable)
        except NotFoundError:
            return False
        # A consumer does not count a message as pending as soon as its stream has stored it.
        handled = info.ack_floor.stream_seq if info.ack_floor else 0
        filters = info.config.filter_subjects or [info.config.filter_subject or ">"]
        return (
            not info.num_pending
            and not info.num_ack_pending
            and all([await last(subject) <= handled for subject in filters])
        )

    async def last(subject: str) -> int:
        try:
            return (await sending.operator.js.get_last_msg(stream, subject)).seq or 0
        except NotFoundError:
            # A work queue deletes acknowledged messages.
            return 0

    await eventually(idle)


def bodies(events: Sequence[dict[str, Any]]) -> str:
    """Events as text, to check that it does not contain a value."""
    return json.dumps(events)

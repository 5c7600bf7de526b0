"""Replies of JetStream to other people's services reach no stream or consumer of Hogsend."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from nats.js.api import AckPolicy, ConsumerConfig

from hogsend.contract import subjects
from hogsend.contract.accounts import OWN, account_of, exports, imports
from hogsend.contract.consumers import API, EXTERNAL_USERS, MIRROR
from hogsend.contract.permissions import inbox_prefix, permissions
from hogsend.contract.registry import endpoints
from hogsend.contract.streams import STREAMS, StreamName
from hogsend.contract.users import User
from hogsend.service import streams
from hogsend.transport.connection import Connection
from tests.integration.harness import connected, consumers_of_others
from tests.servers import Servers
from tests.waiting import PATIENCE_SECONDS

pytestmark = pytest.mark.usefixtures("fresh_bus")

DURABLE = ConsumerConfig(durable_name="mine", ack_policy=AckPolicy.EXPLICIT)
PULLED = f"{API}.CONSUMER.MSG.NEXT.EVENTS.mine"
EMPTIES_OR_DELETES = (
    f"{API}.STREAM.PURGE.EVENTS",
    f"{API}.STREAM.PURGE.WEBHOOKS",
    f"{API}.STREAM.DELETE.EVENTS",
    f"{API}.STREAM.DELETE.ENGAGEMENT",
    f"{API}.CONSUMER.DELETE.EVENTS.mine",
    f"{API}.CONSUMER.DELETE.EVENTS.{MIRROR}",
    "hogsend.js.STREAM.PURGE.EVENTS",
)
TAKES = (f"{API}.CONSUMER.MSG.NEXT.EVENTS.{MIRROR}",)
STORES = (
    "hogsend.webhooks.posthog",
    "hogsend.events.x",
    "hogsend.engagement.email.opened",
    "hogsend.persons.set",
    "hogsend.deadletter.WEBHOOKS",
    subjects.AUDIT,
)


@pytest.fixture
async def operator(servers: Servers) -> AsyncIterator[Connection]:
    """Every stream has a message; EVENTS has a durable of Hogsend's and one of another service."""
    async with consumers_of_others(servers), connected(servers, User.OPERATOR) as operator:
        for owner in {stream.owner for stream in STREAMS.values()}:
            async with connected(servers, owner) as service:
                await streams.reconcile(service.js, owner)
        for subject in STORES:
            await operator.publish(subject, b"{}", {})
        js = await operator.js_for(StreamName.EVENTS)
        for name in ("mine", MIRROR):
            await js.add_consumer(StreamName.EVENTS, DURABLE.evolve(durable_name=name))
        yield operator


async def state(operator: Connection) -> dict[str, Any]:
    """Messages of the streams, and pending messages of the consumers other than `mine`."""
    current: dict[str, Any] = {}
    for info in await operator.js.streams_info():
        current[str(info.config.name)] = (info.state.messages, info.state.last_seq)
    for consumer in await operator.js.consumers_info(StreamName.EVENTS):
        taken = consumer.num_ack_pending if consumer.name == MIRROR else 0
        current[f"EVENTS {consumer.name}"] = (taken, consumer.num_waiting)
    return current


def forbidden_to(user: User) -> list[str]:
    """Reply subjects that a user may not publish to itself."""
    may = permissions(user).publish
    return [
        reply
        for reply in (*EMPTIES_OR_DELETES, *TAKES, *STORES)
        if reply in TAKES or not any(subjects.covers(allowed, reply) for allowed in may)
    ]


async def send_every_request(connection: Connection, reply: str) -> None:
    """Send every request that JetStream or ingest replies to, with the reply subject `reply`."""
    durable = await connection.js.pull_subscribe_bind("mine", StreamName.EVENTS)
    (event,) = await durable.fetch(1, timeout=PATIENCE_SECONDS)
    for subject, body in (
        # With an event.
        (event.reply, b"-NAK"),
        (PULLED, b'{"batch":1,"no_wait":true}'),
        # With nothing, which is a whole request of JetStream's API.
        (event.reply, b""),
        # With a status.
        (PULLED, b'{"batch":1,"no_wait":true}'),
        (f"{API}.CONSUMER.MSG.NEXT.EVENTS.nobodys", b""),
        # With JSON.
        (f"{API}.STREAM.INFO.EVENTS", b""),
        (f"{API}.STREAM.NAMES", b""),
        (f"{API}.CONSUMER.CREATE.EVENTS.x", b"{}"),
    ):
        await connection.client.publish(subject, body, reply=reply)
    # Asked after them: what they would have done has happened.
    await connection.request_raw(f"{API}.STREAM.INFO.EVENTS", b"", seconds=PATIENCE_SECONDS)
    await connection.request_raw(f"{API}.CONSUMER.CREATE.EVENTS.x", b"{}", seconds=PATIENCE_SECONDS)


@pytest.mark.parametrize("user", EXTERNAL_USERS)
async def test_a_reply_of_jetstream_reaches_no_stream_and_no_consumer(
    servers: Servers, operator: Connection, user: User
) -> None:
    reached: dict[str, Any] = {}
    async with connected(servers, user) as connection:
        for reply in forbidden_to(user):
            await operator.publish("hogsend.events.x", b"{}", {})
            before = await state(operator)
            await send_every_request(connection, reply)
            await operator.flush()
            if (after := await state(operator)) != before:
                reached[reply] = after
    assert reached == {}


@pytest.mark.parametrize("user", EXTERNAL_USERS)
def test_another_services_account_imports_its_permissions_and_no_streams(user: User) -> None:
    taken = imports(user)
    assert {one.account for each in taken for one in (each.service, each.stream) if one} == {OWN}
    exported = {(one.service, one.stream) for one in exports() if account_of(user) in one.accounts}
    assert exported == {
        (each.service and each.service.subject, each.stream and each.stream.subject)
        for each in taken
    }
    answered = {one.service for one in exports() if account_of(user) in one.accounts}
    requests = {one.subject for one in endpoints() if user in one.callers}
    assert requests <= answered
    for reached in answered - {None}:
        assert reached is not None
        for verb in ("PURGE", "DELETE", "UPDATE", "CREATE", "RESTORE", "SNAPSHOT"):
            assert not reached.startswith(f"{API}.STREAM.{verb}")
            assert not reached.startswith(f"{API}.CONSUMER.{verb}")
    imported = {one.stream for one in exports() if account_of(user) in one.accounts and one.stream}
    inboxes = {one for one in imported if one.startswith("_INBOX")}
    assert inboxes == {f"{inbox_prefix(user)}.>"}

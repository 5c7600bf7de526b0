"""Replies of JetStream to external services reach no stream and no consumer of Hogsend."""

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
from tests.integration.harness import connected, consumer_api
from tests.servers import Servers
from tests.waiting import PATIENCE_SECONDS

pytestmark = pytest.mark.usefixtures("fresh_bus")

DURABLE = ConsumerConfig(durable_name="mine", ack_policy=AckPolicy.EXPLICIT)
PULLED = f"{API}.CONSUMER.MSG.NEXT.EVENTS.mine"
PURGES_OR_DELETES = (
    f"{API}.STREAM.PURGE.EVENTS",
    f"{API}.STREAM.PURGE.WEBHOOKS",
    f"{API}.STREAM.DELETE.EVENTS",
    f"{API}.STREAM.DELETE.ENGAGEMENT",
    f"{API}.CONSUMER.DELETE.EVENTS.mine",
    f"{API}.CONSUMER.DELETE.EVENTS.{MIRROR}",
    "hogsend.js.STREAM.PURGE.EVENTS",
)
PULLS = (f"{API}.CONSUMER.MSG.NEXT.EVENTS.{MIRROR}",)
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
    """Connect as the operator, after a message to every stream and two durables on EVENTS."""
    async with consumer_api(servers), connected(servers, User.OPERATOR) as operator:
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
    """Return the size of each stream, and the pending messages of consumers other than `mine`."""
    current: dict[str, Any] = {}
    for info in await operator.js.streams_info():
        current[str(info.config.name)] = (info.state.messages, info.state.last_seq)
    for consumer in await operator.js.consumers_info(StreamName.EVENTS):
        pending = consumer.num_ack_pending if consumer.name == MIRROR else 0
        current[f"EVENTS {consumer.name}"] = (pending, consumer.num_waiting)
    return current


def forbidden_to(user: User) -> list[str]:
    """Return the reply subjects that a user itself may not publish to."""
    own_subjects = permissions(user).publish
    return [
        reply
        for reply in (*PURGES_OR_DELETES, *PULLS, *STORES)
        if reply in PULLS or not any(subjects.covers(allowed, reply) for allowed in own_subjects)
    ]


async def send_every_request(connection: Connection, reply: str) -> None:
    """Send every request that JetStream or ingest replies to, with the reply subject `reply`."""
    durable = await connection.js.pull_subscribe_bind("mine", StreamName.EVENTS)
    (event,) = await durable.fetch(1, timeout=PATIENCE_SECONDS)
    for subject, body in (
        # The reply is an event.
        (event.reply, b"-NAK"),
        (PULLED, b'{"batch":1,"no_wait":true}'),
        # The reply is empty, which is a complete request to JetStream's API.
        (event.reply, b""),
        # The reply is a status.
        (PULLED, b'{"batch":1,"no_wait":true}'),
        (f"{API}.CONSUMER.MSG.NEXT.EVENTS.missing", b""),
        # The reply is JSON.
        (f"{API}.STREAM.INFO.EVENTS", b""),
        (f"{API}.STREAM.NAMES", b""),
        (f"{API}.CONSUMER.CREATE.EVENTS.x", b"{}"),
    ):
        await connection.client.publish(subject, body, reply=reply)
    # The requests above have had their effect when these later requests are replied to.
    await connection.request_raw(f"{API}.STREAM.INFO.EVENTS", b"", seconds=PATIENCE_SECONDS)
    await connection.request_raw(f"{API}.CONSUMER.CREATE.EVENTS.x", b"{}", seconds=PATIENCE_SECONDS)


@pytest.mark.parametrize("user", EXTERNAL_USERS)
async def test_a_reply_of_jetstream_to_an_external_service_changes_no_stream_and_no_consumer(
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
def test_the_account_of_an_external_service_imports_its_permissions_and_no_streams(
    user: User,
) -> None:
    imported = imports(user)
    sources = [source for each in imported for source in (each.service, each.stream) if source]
    assert {source.account for source in sources} == {OWN}
    user_exports = [each for each in exports() if account_of(user) in each.accounts]
    exported = {(each.service, each.stream) for each in user_exports}
    assert exported == {
        (each.service and each.service.subject, each.stream and each.stream.subject)
        for each in imported
    }
    services = {each.service for each in user_exports}
    requests = {endpoint.subject for endpoint in endpoints() if user in endpoint.callers}
    assert requests <= services
    for subject in services - {None}:
        assert subject is not None
        for verb in ("PURGE", "DELETE", "UPDATE", "CREATE", "RESTORE", "SNAPSHOT"):
            assert not subject.startswith(f"{API}.STREAM.{verb}")
            assert not subject.startswith(f"{API}.CONSUMER.{verb}")
    imported_streams = {each.stream for each in user_exports if each.stream}
    inboxes = {subject for subject in imported_streams if subject.startswith("_INBOX")}
    assert inboxes == {f"{inbox_prefix(user)}.>"}

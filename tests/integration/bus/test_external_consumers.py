"""External services create and read their own consumers, and cannot change any other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import msgspec
import nats.errors
import pytest
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig
from nats.js.errors import APIError, BadRequestError, NotFoundError

from cli.commands import consumers
from cli.errors import CommandError
from hogsend.client.client import Client
from hogsend.contract.consumers import API, EXTERNAL_USERS, MIRROR, OWN_API
from hogsend.contract.errors import Forbidden
from hogsend.contract.permissions import inbox_prefix
from hogsend.contract.streams import StreamName
from hogsend.contract.users import User
from hogsend.transport.connection import Connection
from services.ingest.consumer_api import requests
from tests.integration.harness import connected, consumer_api
from tests.servers import Servers
from tests.waiting import PATIENCE_SECONDS, eventually

pytestmark = pytest.mark.usefixtures("fresh_bus")

EVERY_EVENT = "hogsend.events.*"
SERVICES = [user for user in User if user is not User.OPERATOR]
OTHER_DURABLE = ConsumerConfig(
    durable_name="other", filter_subject=EVERY_EVENT, ack_policy=AckPolicy.EXPLICIT
)
TARGETS = (
    "hogsend.rpc.ingest.purge",
    "hogsend.rpc.ingest.record",
    "hogsend.engagement.email.opened",
    "hogsend.webhooks.posthog",
    f"{inbox_prefix(User.GATEWAY)}.x",
    f"{API}.STREAM.PURGE.EVENTS",
)


@pytest.fixture
async def operator(servers: Servers) -> AsyncIterator[Connection]:
    async with consumer_api(servers), connected(servers, User.OPERATOR) as operator:
        js = await operator.js_for(StreamName.EVENTS)
        for durable in ("other", MIRROR):
            await js.add_consumer(StreamName.EVENTS, OTHER_DURABLE.evolve(durable_name=durable))
        yield operator


async def existing(operator: Connection) -> dict[str, Any]:
    configs = {}
    for stream in (StreamName.EVENTS, StreamName.ENGAGEMENT, StreamName.WEBHOOKS):
        for info in await operator.js.consumers_info(stream):
            configs[f"{stream} {info.name}"] = (info.config.as_dict(), info.num_ack_pending)
    return configs


def attempts(api: str, stream: StreamName) -> dict[str, dict[str, Any]]:
    """Requests that would change consumers of other services, or publish in Hogsend's name."""
    requests: dict[str, dict[str, Any]] = {}

    def create(name: str, config: dict[str, Any], action: str | None = None) -> None:
        head = f"{api}.CONSUMER"
        head_of_body = {"stream_name": stream} | ({} if action is None else {"action": action})
        durable = {**head_of_body, "config": {"durable_name": name, **config}}
        body = {**head_of_body, "config": {"name": name, **config}}
        requests[f"{head}.CREATE.{stream}.{name} {len(requests)}"] = body
        requests[f"{head}.CREATE.{stream} {len(requests)}"] = body
        requests[f"{head}.DURABLE.CREATE.{stream}.{name} {len(requests)}"] = durable

    for target in TARGETS:
        create("zz", {"deliver_subject": target, "deliver_group": "ingest", "ack_policy": "none"})
    for name in ("other", MIRROR):
        for action in (None, "", "create", "update"):
            create(name, {"filter_subject": "hogsend.events.no", "durable_name": name}, action)
        requests[f"{api}.CONSUMER.DELETE.{stream}.{name}"] = {}
    return requests


@pytest.mark.parametrize("api", [API, OWN_API])
@pytest.mark.parametrize("user", SERVICES)
async def test_a_service_cannot_change_consumers_of_other_services(
    servers: Servers, operator: Connection, user: User, api: str
) -> None:
    before = await existing(operator)
    # Ingest and analytics may create consumers, so they are not tried.
    streams = () if user in (User.ANALYTICS, User.INGEST) else (StreamName.EVENTS,)
    async with connected(servers, user) as connection:

        async def is_refused(subject: str, body: dict[str, Any]) -> bool:
            try:
                reply = await connection.request_raw(subject, msgspec.json.encode(body), seconds=5)
            except Forbidden:
                return True
            return "error" in msgspec.json.decode(reply.data)

        for stream in streams:
            requests = attempts(api, stream)
            results = await asyncio.gather(
                *(is_refused(subject.partition(" ")[0], body) for subject, body in requests.items())
            )
            accepted = [
                name for name, refused in zip(requests, results, strict=True) if not refused
            ]
            assert accepted == []
        if user is not User.ANALYTICS:
            subject = f"{api}.CONSUMER.MSG.NEXT.EVENTS.{MIRROR}"
            with pytest.raises(Forbidden):
                await connection.request_raw(subject, b"1", seconds=5)
    assert await existing(operator) == before


@pytest.mark.parametrize("user", EXTERNAL_USERS)
async def test_stock_clients_create_their_own_consumers(
    servers: Servers, operator: Connection, user: User
) -> None:
    for id in range(3):
        await operator.publish("hogsend.events.x", b"%d" % id, {})
    async with connected(servers, user) as connection:
        js = connection.client.jetstream(timeout=PATIENCE_SECONDS)
        durable = await js.pull_subscribe(EVERY_EVENT, "mine", stream=StreamName.EVENTS)
        messages = await durable.fetch(3, timeout=PATIENCE_SECONDS)
        assert [message.data for message in messages] == [b"0", b"1", b"2"]
        again = await js.pull_subscribe(EVERY_EVENT, "mine", stream=StreamName.EVENTS)
        assert (await again.consumer_info()).name == "mine"
        # nats-py looks up the stream of the subject.
        pushed = await js.subscribe(EVERY_EVENT)
        assert (await pushed.next_msg(timeout=PATIENCE_SECONDS)).data == b"0"
        ordered = await js.subscribe(EVERY_EVENT, ordered_consumer=True)
        assert (await ordered.next_msg(timeout=PATIENCE_SECONDS)).data == b"0"
        passing = (await pushed.consumer_info()).name
        assert await js.delete_consumer(StreamName.EVENTS, passing) is True
        with pytest.raises(APIError, match="only an operator deletes"):
            await js.delete_consumer(StreamName.EVENTS, "mine")
        with pytest.raises(BadRequestError, match="consumer already exists"):
            await js.add_consumer(
                StreamName.EVENTS, OTHER_DURABLE.evolve(filter_subject="hogsend.events.no")
            )
        with pytest.raises(APIError, match="only an operator deletes"):
            await js.delete_consumer(StreamName.EVENTS, "no")
        with pytest.raises(NotFoundError, match="consumer not found"):
            await js.delete_consumer(StreamName.EVENTS, "n0" * 20)


@pytest.mark.parametrize("header", [None, "Nats-Trace-Dest"])
async def test_ingest_replies_to_a_consumer_request_only_at_an_inbox(
    servers: Servers, operator: Connection, header: str | None
) -> None:
    received: list[str] = []

    async def receive(message: Msg) -> None:
        received.append(message.subject)

    # Ingest may publish to these subjects, and the user that requests a consumer may not.
    targets = ("hogsend.webhooks.posthog", "hogsend.events.x", "hogsend.deadletter.EVENTS")
    for target in targets:
        await operator.client.subscribe(target, cb=receive)
    async with connected(servers, User.SUBSCRIBER) as connection:
        create = f"{API}.CONSUMER.CREATE.EVENTS.zz"
        for target in targets:
            headers = {header: target} if header else None
            reply = "" if header else target
            await connection.client.publish(create, b"{}", reply=reply, headers=headers)
        # Ingest has handled the earlier requests when it replies to this one.
        await connection.request_raw(create, b"{}", seconds=5)
    # See `Connection.flush`.
    for _ in range(2):
        await operator.client.flush()
    assert received == []


async def test_the_number_of_consumers_is_limited(
    servers: Servers, operator: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "MAX_CONSUMERS", 2)
    async with connected(servers, User.SUBSCRIBER) as connection:
        with pytest.raises(BadRequestError, match="EVENTS has 2 consumers"):
            await connection.js.add_consumer(StreamName.EVENTS, ConsumerConfig(name="third"))
        again = await connection.js.add_consumer(StreamName.EVENTS, OTHER_DURABLE)
        assert again.name == "other"


async def _has_no_responder(connection: Connection) -> bool:
    try:
        await connection.request_raw(f"{API}.CONSUMER.CREATE.EVENTS.x", b"{}", seconds=1)
    except nats.errors.NoRespondersError:
        return True
    except nats.errors.TimeoutError:
        # The server has not detected yet that ingest has disconnected.
        pass
    return False


async def test_an_existing_durable_is_read_while_ingest_is_down(servers: Servers) -> None:
    async with connected(servers, User.SUBSCRIBER) as connection:
        async with consumer_api(servers):
            await connection.js.add_consumer(StreamName.EVENTS, OTHER_DURABLE)
        await eventually(partial(_has_no_responder, connection))
        events = Client(connection).events(durable="other")
        waiting = asyncio.ensure_future(anext(events))
        async with connected(servers, User.INGEST) as ingest:
            body = b'{"id":"1","event":"x","source":"hogsend","userId":"u","contactKey":"u",'
            body += b'"occurredAt":"2026-01-01T00:00:00Z","receivedAt":"2026-01-01T00:00:00Z",'
            await ingest.publish("hogsend.events.x", body + b'"properties":{}}', {})
        assert (await asyncio.wait_for(waiting, PATIENCE_SECONDS)).id == "1"


async def test_an_operator_deletes_a_durable(
    servers: Servers, operator: Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    address = servers.nats_url(User.OPERATOR)
    await asyncio.to_thread(consumers.delete, "EVENTS", "other", nats_url=address)
    with pytest.raises(CommandError, match="Hogsend's own"):
        await asyncio.to_thread(consumers.delete, "EVENTS", MIRROR, nats_url=address)
    with pytest.raises(CommandError, match="no such consumer"):
        await asyncio.to_thread(consumers.delete, "EVENTS", "other", nats_url=address)
    with pytest.raises(CommandError, match="not a valid consumer name"):
        await asyncio.to_thread(consumers.delete, "EVENTS", "not valid", nats_url=address)
    capsys.readouterr()
    await asyncio.to_thread(consumers.list_, nats_url=address, json=True)
    listed = msgspec.json.decode(capsys.readouterr().out)
    assert [consumer["name"] for consumer in listed["consumers"]] == [MIRROR]

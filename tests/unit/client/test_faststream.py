"""FastStream apps of external services on FastStream's test broker, without a server."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from faststream.nats import TestNatsBroker

from hogsend import CredentialChanged, Event, TypedEvent
from hogsend.contract import subjects
from hogsend.faststream import HogsendBroker
from tests.messages import Plan, credential_change, event


async def test_a_handler_is_called_without_a_server_by_faststreams_test_broker() -> None:
    broker, got = HogsendBroker("nats://nowhere:4222", logger=None), list[Event]()

    @broker.events("signed_up", durable="mailer")
    async def welcome(event: Event) -> None:
        got.append(event)

    async with TestNatsBroker(broker):
        await broker.publish(event("1"), subjects.event("signed_up"))
    assert got == [event("1")]


class Exact(msgspec.Struct):
    plan: msgspec.Raw
    price: Decimal


async def test_a_typed_event_is_decoded_by_the_library() -> None:
    broker = HogsendBroker("nats://nowhere:4222", logger=None)
    got = list[TypedEvent[Exact]]()

    @broker.events("signed_up")
    async def welcome(event: TypedEvent[Exact]) -> None:
        got.append(event)
        if event.id == "1":
            # The second event is decoded while the first one is being handled.
            await send("2", b'"free"')

    async def send(id: str, plan: bytes) -> None:
        body = msgspec.json.encode(event(id, plan="#"))
        exact = body.replace(b'"plan":"#"', b'"price":1.10,"plan":' + plan)
        await broker.publish(exact, subjects.event("signed_up"))

    async with TestNatsBroker(broker):
        await send("1", b'{"of": 1e400}')
    decoded = [(each.id, bytes(each.properties.plan), str(each.properties.price)) for each in got]
    assert decoded == [("1", b'{"of": 1e400}', "1.10"), ("2", b'"free"', "1.10")]


async def test_the_test_broker_calls_handlers_of_several_names_and_of_undecodable_events() -> None:
    broker = HogsendBroker("nats://nowhere:4222", logger=None)
    got, undecodable, versions = list[str](), list[str](), list[int]()

    @broker.events(
        ["signed_up", "plan.changed"],
        durable="mailer",
        undecodable=lambda error: undecodable.append(f"{error.id} {error.path}"),
    )
    async def welcome(event: TypedEvent[Plan]) -> None:
        got.append(event.id)
        if event.id == "2":
            raise ValueError("the handler's")

    @broker.credential_changes("posthog")
    async def changed(change: CredentialChanged) -> None:
        versions.append(change.version)

    async with TestNatsBroker(broker):
        for sent in (event("1"), event("3", plan=3), event("4", "elsewhere")):
            await broker.publish(sent, subjects.event(sent.event))
        with pytest.raises(ValueError, match="the handler's"):
            await broker.publish(event("2", "plan.changed"), subjects.event("plan.changed"))
        for version in (7, 7, 8):
            await broker.publish(credential_change(version), subjects.credential_changed("posthog"))
    assert (got, undecodable) == (["1", "2"], ["3 properties.plan"])
    # A repeated version is dropped, as on a server.
    assert versions == [7, 8]


@pytest.mark.parametrize("is_above", [True, False])
async def test_a_handler_may_have_other_decorators_above_and_below(is_above: bool) -> None:
    broker = HogsendBroker("nats://nowhere:4222", logger=None)
    published, undecodable = list[str](), list[str]()
    events = broker.events("signed_up", undecodable=lambda error: undecodable.append(error.id))
    publisher = broker.publisher("welcomed")

    async def welcome(event: TypedEvent[Plan]) -> str:
        return event.id

    handler: Any = publisher(events(welcome)) if is_above else events(publisher(welcome))

    @broker.subscriber("welcomed")
    async def welcomed(id: str) -> None:
        published.append(id)

    async with TestNatsBroker(broker):
        for sent in (event("1"), event("2", plan=2)):
            await broker.publish(sent, subjects.event(sent.event))
        handler.mock.assert_called_once()
    assert (published, undecodable) == (["1"], ["2"])

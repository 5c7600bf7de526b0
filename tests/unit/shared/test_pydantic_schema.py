"""Messages of the contract in pydantic models, which FastStream uses to describe an app."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pydantic
import pytest
from faststream.specification import AsyncAPI

from hogsend import CredentialChanged, Event, TypedEvent
from hogsend.faststream import HogsendBroker
from tests.messages import event

PUBLISHED = json.loads((Path(__file__).parents[3] / "docs" / "asyncapi.json").read_text())


class Card(msgspec.Struct, tag=True):
    number: str


class Invoice(msgspec.Struct, tag=True):
    discriminator: int = 0


class Seat(msgspec.Struct):
    name: str
    deputy: Seat | None = None


class Plan(msgspec.Struct):
    plan: str
    seats: list[Seat]
    paid_by: Card | Invoice


class Model(pydantic.BaseModel):
    event: Event
    typed: TypedEvent[Plan] | None = None


def payloads(broker: HogsendBroker) -> dict[str, Any]:
    """The schema of each channel's message, as FastStream describes it."""
    document = json.loads(AsyncAPI(broker).to_specification().to_json())
    components = document["components"]
    schemas = {}
    for channel in document["channels"].values():
        (message,) = channel["messages"].values()
        name = message["$ref"].rpartition("/")[2].replace("%2A", "*")
        schema = components["messages"][name]["payload"]["$ref"].rpartition("/")[2]
        schemas[channel["address"]] = components["schemas"][schema]
    return schemas


def test_faststream_describes_an_app_that_handles_messages_of_the_contract() -> None:
    broker = HogsendBroker("nats://127.0.0.1:4222")

    @broker.events("plan_changed", durable="mailer")
    async def changed(event: Event) -> None: ...

    @broker.events("plan_ended", durable="billing")
    async def ended(event: TypedEvent[Plan]) -> None: ...

    @broker.credential_changes("posthog")
    async def watch(change: CredentialChanged) -> None: ...

    @broker.subscriber("hogsend.events.*", stream="EVENTS", durable="own", pull_sub=True)
    async def own(event: Event) -> None: ...

    schemas = payloads(broker)
    for address, message in (
        ("hogsend.events.plan_changed", "Event"),
        ("hogsend.events.*", "Event"),
        ("hogsend.credentials.posthog.changed", "CredentialChanged"),
    ):
        published = PUBLISHED["components"]["schemas"][message]
        assert schemas[address]["properties"].keys() == published["properties"].keys()
        assert schemas[address]["required"] == published["required"]
    properties = schemas["hogsend.events.plan_ended"]["properties"]["properties"]
    seat = properties["properties"]["seats"]["items"]
    assert seat["properties"]["deputy"]["anyOf"] == [{"title": "Seat"}, {"type": "null"}]
    card, invoice = properties["properties"]["paid_by"]["anyOf"]
    assert (card["title"], card["required"]) == ("Card", ["type", "number"])
    assert "discriminator" in invoice["properties"]


def test_a_pydantic_model_reads_and_writes_messages_as_the_bus_does() -> None:
    body = msgspec.json.decode(msgspec.json.encode(event("1")))
    properties = {
        "plan": "pro",
        "seats": [{"name": "ada", "deputy": None}],
        "paid_by": {"type": "Card", "number": "1"},
    }
    read = Model.model_validate({"event": body, "typed": {**body, "properties": properties}})
    assert read.event == event("1")
    assert read.typed is not None
    assert read.typed.properties.paid_by == Card("1")
    assert Model(event=read.event, typed=read.typed) == read
    assert Model.model_validate_json(read.model_dump_json()) == read
    with pytest.raises(pydantic.ValidationError, match="missing required field `id`"):
        Model.model_validate({"event": {}})

"""`type=` of `Client.events`: properties of the caller's type, or an error that names a field."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable
from datetime import UTC, datetime
from pickle import dumps, loads
from typing import Annotated, Any, Literal, TypedDict, assert_type

import msgspec
import pydantic
import pytest
from nats.aio.client import Client as NatsClient
from nats.aio.msg import Msg

from hogsend import CannotDecode, Client, Event, InvalidRequest, TypedEvent
from hogsend.client.decoding import Decoder, decoder_for, typed_event
from hogsend.client.subscriptions import Events
from hogsend.contract import subjects
from hogsend.transport.connection import Connection
from tests.messages import event


class Item(msgspec.Struct, rename={"sku": "$sku"}):
    sku: str


class Plan(msgspec.Struct):
    plan: Literal["free", "pro"]
    seats: int = 1
    since: datetime | None = None
    items: list[Item] = []


class PlanDict(TypedDict):
    plan: str


@dataclasses.dataclass
class PlanData:
    plan: str


class PlanModel(pydantic.BaseModel):
    plan: str


class PlanOrModel(msgspec.Struct):
    plan: str
    again: PlanOrModel | None = None
    model: list[PlanModel] = []


class Folder(msgspec.Struct):
    name: str
    folders: list[Folder] = []


class Paid(msgspec.Struct):
    plan: str

    def __post_init__(self) -> None:
        if self.plan == "free":
            raise LookupError(self.plan)


class Items(msgspec.Struct):
    items: set[Item]


class Unfinished(msgspec.Struct):
    plan: msgspec.Missing  # type: ignore[name-defined]


class Started(msgspec.Struct, tag=True):
    plan: str


class Stopped(msgspec.Struct, tag=True):
    why: str


def message(properties: dict[str, Any], name: str = "plan.changed") -> Msg:
    sent = msgspec.structs.replace(
        event("e1", name, properties=properties),
        email="ada@example.com",
        person_properties={"$name": "Ada"},
    )
    return raw(msgspec.json.encode(sent), name)


def raw(data: bytes, name: str = "plan.changed") -> Msg:
    headers = {"Nats-Msg-Id": "m1"}
    return Msg(NatsClient(), subject=subjects.event(name), data=data, headers=headers)


def decode(kind: Any, received: Msg) -> Any:
    return Decoder[Any](typed_event(kind)).decode(received)


def test_properties_are_of_the_callers_type_and_other_fields_as_in_an_event() -> None:
    sent = {"plan": "pro", "since": "2026-01-02T03:04:05Z", "items": [{"$sku": "a"}], "$lib": "x"}
    event = decode(Plan, message(sent))
    plan = Plan(plan="pro", since=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), items=[Item("a")])
    assert event.properties == plan
    untyped = msgspec.json.decode(message(sent).data, type=Event)
    for field in set(Event.__struct_fields__) - {"properties"}:
        assert getattr(event, field) == getattr(untyped, field)
    assert event.key == untyped.key


def test_a_typed_event_has_the_fields_of_an_event() -> None:
    assert set(TypedEvent.__struct_fields__) == set(Event.__struct_fields__)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (PlanDict, {"plan": "x"}),
        (PlanData, PlanData("x")),
        (dict[str, str], {"plan": "x"}),
        (dict[str, object], {"plan": "x"}),
        (object, {"plan": "x"}),
    ],
)
def test_the_type_may_be_anything_msgspec_decodes(kind: Any, value: object) -> None:
    assert decode(kind, message({"plan": "x"})).properties == value


@pytest.mark.parametrize(
    ("properties", "path", "reason"),
    [
        ({"plan": "pro", "seats": "3"}, "properties.seats", "Expected `int`, got `str`"),
        ({"plan": "pro", "seats": None}, "properties.seats", "Expected `int`, got `null`"),
        ({}, "properties.plan", "missing required field `plan`"),
        ({"plan": "gold"}, "properties.plan", "Invalid enum value 'gold'"),
        ({"plan": "pro", "since": "soon"}, "properties.since", "Invalid RFC3339"),
        ({"plan": "pro", "items": [{"$sku": "a"}, {"$sku": 1}]}, "properties.items[1].$sku", "str"),
        ({"plan": "pro", "items": [{}]}, "properties.items[0].$sku", "missing"),
    ],
)
def test_the_error_names_the_field_that_does_not_match(
    properties: dict[str, Any], path: str, reason: str
) -> None:
    with pytest.raises(CannotDecode) as refused:
        decode(Plan, message(properties, "plan changed"))
    error = refused.value
    assert (error.id, error.name, error.path) == ("e1", "plan changed", path)
    assert reason in error.reason
    assert all(part in str(error) for part in ("'plan changed'", "e1", "Plan", reason, path))
    assert error.event is not None
    assert error.event.properties == properties
    assert error.data == message(properties, "plan changed").data


@pytest.mark.parametrize(
    ("kind", "properties", "reason"),
    [
        (Paid, {"plan": "free"}, "LookupError('free')"),
        (Items, {"items": [{"$sku": "a"}]}, "TypeError(\"unhashable type: 'Item'\")"),
    ],
)
def test_any_error_of_the_type_is_a_decoding_error(
    kind: Any, properties: dict[str, Any], reason: str
) -> None:
    with pytest.raises(CannotDecode) as refused:
        decode(kind, message(properties))
    error = refused.value
    assert (error.id, error.path, error.reason) == ("e1", "", reason)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b"\xff\xfe", b"[" * 5000])
@pytest.mark.parametrize("name", ["plan changed", "x" * 300])
def test_the_error_for_a_body_that_is_no_event_names_the_message(data: bytes, name: str) -> None:
    with pytest.raises(CannotDecode) as refused:
        Decoder[Event](Event).decode(raw(data, name))
    error = refused.value
    expected_name = name if len(name) < subjects.MAX_TOKEN_BYTES else subjects.escape(name)
    assert (error.id, error.name, error.event, error.data) == ("m1", expected_name, None, data)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda it: loads(dumps(it))])  # noqa: S301 - its own
def test_the_error_can_be_copied_with_all_attributes(copied: Callable[[Exception], Any]) -> None:
    with pytest.raises(CannotDecode) as refused:
        Decoder[Event](Event).decode(raw(b"{}", "signed_up"))
    error, again = refused.value, copied(refused.value)
    assert (str(again), vars(again)) == (str(error), vars(error))


@pytest.mark.parametrize(
    "kind",
    [object(), 5, "Plan", lambda: 3, (Plan, str), list["Missing"], Unfinished],  # type: ignore[name-defined]  # noqa: F821
)
def test_an_invalid_type_is_refused_before_reading(kind: Any) -> None:
    with pytest.raises(InvalidRequest):
        Client(Connection("subscriber", "nats://127.0.0.1:1")).events("signed_up", type=kind)


@pytest.mark.parametrize("kind", [PlanModel, PlanOrModel, dict[str, PlanModel], PlanModel | None])
def test_a_model_that_msgspec_cannot_decode_is_refused_by_name(kind: Any) -> None:
    def handler(event: TypedEvent[PlanModel]) -> None: ...

    with pytest.raises(InvalidRequest, match="msgspec does not know PlanModel;"):
        Client(Connection("subscriber", "nats://127.0.0.1:1")).events("signed_up", type=kind)
    with pytest.raises(InvalidRequest, match="msgspec does not know PlanModel;"):
        decoder_for(handler, Event)


def test_a_type_may_be_recursive() -> None:
    sent = {"name": "a", "folders": [{"name": "b"}]}
    assert decode(Folder, message(sent)).properties == Folder("a", [Folder("b")])


def test_mypy_knows_the_type_of_the_properties() -> None:
    client = Client(Connection("subscriber", "nats://127.0.0.1:1"))
    assert_type(client.events("signed_up"), Events[Event])
    assert_type(client.events("signed_up", type=Plan), Events[TypedEvent[Plan]])
    assert_type(client.events("signed_up", type=Started | Stopped), Events[TypedEvent[Any]])


def test_a_handlers_annotation_determines_its_type() -> None:
    async def typed(event: TypedEvent[Plan], other: int = 0) -> None: ...

    async def untyped(event: Event) -> None: ...

    async def unknown(event: Nothing) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    async def returns(event: Event) -> TypedEvent[Plan]: ...  # type: ignore[empty-body]

    async def annotated(event: Annotated[TypedEvent[Plan], "an event"]) -> None: ...

    class Handler:
        async def __call__(self, event: TypedEvent[Plan]) -> None: ...

    strange = message({"plan": 3})
    takes_plans: list[Callable[..., Any]] = [typed, annotated, Handler(), functools.partial(typed)]
    for handler in takes_plans:
        with pytest.raises(CannotDecode, match="Plan"):
            decoder_for(handler, Event).decode(strange)
    takes_any: list[Callable[..., Any]] = [untyped, unknown, returns]
    for handler in takes_any:
        assert decoder_for(handler, Event).decode(strange).properties == {"plan": 3}

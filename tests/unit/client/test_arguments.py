"""Invalid arguments are refused, and lone surrogates in texts are replaced."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from hogsend import Client, InvalidRequest
from hogsend.client.subscriptions import credentials_consumer, events_consumer
from hogsend.contract.conditions import (
    ANALYTICS_CONDITIONS,
    MAX_QUERIES,
    ConditionResults,
    EvaluateConditions,
)
from hogsend.contract.errors import TooLarge
from hogsend.contract.flags import ANALYTICS_FLAGS, Flags, GetFlags
from hogsend.contract.headers import MESSAGE_ID
from hogsend.contract.json_text import MAX_DEPTH
from hogsend.contract.persons import ANALYTICS_PERSON
from hogsend.contract.users import User
from hogsend.transport.connection import Connection
from tests.unit.analytics.fakes import FakeLink
from tests.virtual_time import settle

CUT = json.loads(r'"cut \ud83d"')
"""A lone surrogate, as Python's own `json` decodes it."""


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.capture("e", "u", "plan"),
        lambda client: client.capture("e", "u", ["plan"]),
        lambda client: client.capture("e", "u", groups="company"),
        lambda client: client.persons.set("u", ["plan"]),
        lambda client: client.persons.set("u", once="plan"),
        # Not a list of characters.
        lambda client: client.persons.set("u", unset="plan"),
        lambda client: client.persons.alias("u", 5),
        # PostHog would truncate the id, and merge another person.
        lambda client: client.persons.alias("u", "x" * 201),
        lambda client: client.persons.alias("x" * 201, "anon"),
        lambda client: client.conditions_met("u_1", []),
        lambda client: client.conditions_met(["u_1"], None),
        lambda client: client.flags.get(["new-nav"], "u"),
        lambda client: client.engagement.report(["email.opened"], {}),
        lambda client: client.engagement.report("email.opened", "ab"),
        lambda client: client.engagement.report("email.opened", {"to": "a@b.com"}, id=5),
        lambda client: client.engagement.report("email.opened", {"to": "a@b.com"}, id=CUT),
        lambda client: client.when("u", hour="9"),
        lambda client: client.when("u", hour=9, after=date(2026, 1, 1)),
        lambda client: client.when("u", hour=9, after="2026-01-01T00:00:00Z"),
        lambda _client: asyncio.to_thread(events_consumer, CUT, None),
        lambda _client: asyncio.to_thread(events_consumer, "e", CUT),
        lambda _client: asyncio.to_thread(credentials_consumer, CUT),
        lambda _client: asyncio.to_thread(credentials_consumer, 5),  # type: ignore[arg-type]
    ],
)
async def test_an_invalid_argument_is_an_invalid_request(
    call: Callable[[Any], Awaitable[Any]],
) -> None:
    link = FakeLink()
    with pytest.raises(InvalidRequest):
        await call(Client(link))
    assert link.published == []


async def test_a_write_without_a_change_is_not_sent() -> None:
    link = FakeLink()
    client = Client(link)
    await client.persons.set("u")
    await client.persons.set("u", {}, once={}, unset=[])
    await client.persons.alias("u", "u")
    assert link.published == []


async def test_all_arguments_are_part_of_the_flags_request() -> None:
    def reply(request: GetFlags) -> Flags:
        requests.append(request)
        return Flags(values={"new-nav": "blue"})

    link, requests = FakeLink(), list[GetFlags]()
    link.reply_with(ANALYTICS_FLAGS, reply)
    flags = Client(link).flags
    arguments: dict[str, Any] = {
        "groups": {"company": "c_1"},
        "person_properties": {"plan": "pro"},
        "group_properties": {"company": {"seats": 3}},
    }
    assert await flags.get("new-nav", "u", **arguments) == "blue"
    assert await flags.all("u", **arguments) == {"new-nav": "blue"}
    assert requests == [
        GetFlags(distinct_id="u", keys=keys, **arguments) for keys in (["new-nav"], None)
    ]


async def test_lone_surrogates_are_replaced() -> None:
    link = FakeLink()
    client = Client(link)
    await client.capture(CUT, CUT, {CUT: [CUT, "\ud83d\ude00"]})
    await client.persons.set("u", {"name": CUT})
    await client.engagement.report("email.opened", {"to": "a@b.com", "userId": CUT})
    captured, changed, reported = (json.loads(message.body) for message in link.published)
    repaired = "cut \ufffd"
    assert (captured["event"], captured["distinctId"]) == (repaired, repaired)
    assert captured["properties"] == {repaired: [repaired, "\U0001f600"]}
    assert changed["set"] == {"name": repaired}
    assert reported["data"]["userId"] == repaired


async def test_nan_and_infinity_become_null() -> None:
    link = FakeLink()
    client = Client(link)
    for text in ("whole", CUT, "NaN"):
        await client.capture("e", "u", {"of": text, "ratio": [math.nan, math.inf, -math.inf, 2.5]})
    sent = [json.loads(message.body)["properties"]["ratio"] for message in link.published]
    assert sent == 3 * [[None, None, None, 2.5]]


async def test_a_time_keeps_the_seconds_of_its_offset() -> None:
    link = FakeLink()
    client = Client(link)
    # In 1900 Monrovia was 43 minutes and 8 seconds behind UTC.
    long_ago = datetime(1900, 1, 1, tzinfo=ZoneInfo("Africa/Monrovia"))
    today = datetime(2026, 1, 1, 12, tzinfo=ZoneInfo("Europe/Berlin"))
    bag = {"born": long_ago, "at": [{"is": (long_ago, today)}]}
    await client.capture("e", "u", bag, timestamp=long_ago)
    await client.persons.set("u", bag, once=bag, timestamp=long_ago)
    await client.engagement.report("email.opened", {"to": "a@b.com", **bag}, timestamp=long_ago)
    captured, changed, reported = (json.loads(message.body) for message in link.published)
    moment = "1900-01-01T00:43:08Z"
    sent = {"born": moment, "at": [{"is": [moment, "2026-01-01T12:00:00+01:00"]}]}
    assert (captured["timestamp"], captured["properties"]) == (moment, sent)
    assert (changed["timestamp"], changed["set"], changed["setOnce"]) == (moment, sent, sent)
    assert reported["timestamp"] == moment
    assert {name: reported["data"][name] for name in sent} == sent
    # The caller's mapping is not changed.
    assert bag == {"born": long_ago, "at": [{"is": (long_ago, today)}]}


async def test_a_mapping_that_contains_itself_is_refused() -> None:
    endless: dict[str, Any] = {}
    endless["again"] = [endless, endless]
    link = FakeLink()
    with pytest.raises(InvalidRequest, match="deep"):
        await Client(link).capture("e", "u", endless)
    with pytest.raises(InvalidRequest, match="deep"):
        await Client(link).flags.all("u", person_properties=endless)


@pytest.mark.parametrize(
    "call",
    [
        lambda client, deep: client.capture("e", "u", {"deep": deep}),
        lambda client, deep: client.persons.set("u", {"deep": deep}),
        lambda client, deep: client.engagement.report("email.opened", {"deep": deep}),
    ],
)
@pytest.mark.parametrize("levels", [MAX_DEPTH - 1, MAX_DEPTH])
async def test_a_write_that_is_nested_too_deeply_is_not_sent(
    call: Callable[[Client, object], Awaitable[Any]], levels: int
) -> None:
    link = FakeLink()
    deep: object = 1
    # The message itself adds two levels.
    for _ in range(levels):
        deep = [deep]
    with pytest.raises(InvalidRequest, match=f"more than {MAX_DEPTH} deep"):
        await call(Client(link), deep)
    assert link.published == []


async def test_a_write_waits_while_as_many_as_allowed_are_in_flight(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """More of them would time each other out."""
    link, may_publish = FakeLink(), asyncio.Event()
    publish, publishing = link.publish, list[str]()

    async def publish_when_allowed(subject: str, *given: Any, **options: Any) -> None:
        publishing.append(subject)
        await may_publish.wait()
        await publish(subject, *given, **options)

    monkeypatch.setattr(link, "publish", publish_when_allowed)
    monkeypatch.setattr(link.publisher, "slots", asyncio.Semaphore(2))
    client = Client(link)
    writes = [asyncio.create_task(client.capture("e", "u")) for _ in range(5)]
    await settle()
    assert len(publishing) == 2
    may_publish.set()
    await asyncio.gather(*writes)
    assert len(link.published) == 5


async def test_a_request_that_cannot_be_encoded_is_not_sent() -> None:
    class Connected(Connection):
        connected = True

    connection = Connected(User.APP, "nats://127.0.0.1:4222")
    invalid = ANALYTICS_PERSON.request(distinct_id=object())  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match="object is unsupported"):
        await connection.request(ANALYTICS_PERSON, invalid)


async def test_each_write_has_a_new_id_by_default() -> None:
    link = FakeLink()
    client = Client(link)
    for _ in range(2):
        await client.capture("e", "u")
        await client.capture("e", "u", id=None)
        await client.persons.set("u", {"a": 1})
        await client.persons.alias("u", "anon")
    ids = [json.loads(message.body)["id"] for message in link.published]
    assert len(set(ids)) == len(ids)
    assert [message.headers[MESSAGE_ID] for message in link.published] == ids


@pytest.mark.parametrize(("people", "fit"), [(0, 9), (1000, 1000), (2500, 9999), (7, 2)])
async def test_more_people_than_fit_are_split_over_several_requests(people: int, fit: int) -> None:
    def reply(request: EvaluateConditions) -> ConditionResults:
        if len(request.queries) > fit:
            raise TooLarge("the request is larger than NATS takes")
        requests.append(len(request.queries))
        return ConditionResults([int(one.distinct_id) % 3 == 0 for one in request.queries])

    link, requests = FakeLink(), list[int]()
    link.reply_with(ANALYTICS_CONDITIONS, reply)
    ids = [str(number) for number in range(people)]
    met = await Client(link).conditions_met(ids, [])
    assert met == [number % 3 == 0 for number in range(people)]
    assert sum(requests) == people
    assert max(requests) <= min(fit, MAX_QUERIES)


async def test_conditions_too_large_for_a_request_are_invalid() -> None:
    def reply(_request: EvaluateConditions) -> ConditionResults:
        raise TooLarge("the request is larger than NATS takes")

    link = FakeLink()
    link.reply_with(ANALYTICS_CONDITIONS, reply)
    with pytest.raises(InvalidRequest, match="larger than NATS takes"):
        await Client(link).conditions_met(["u_1", "u_2"], [])


async def test_flag_properties_too_large_for_a_request_are_invalid() -> None:
    def reply(_request: GetFlags) -> Flags:
        raise TooLarge("the request is larger than NATS takes")

    link = FakeLink()
    link.reply_with(ANALYTICS_FLAGS, reply)
    with pytest.raises(InvalidRequest, match="larger than NATS takes"):
        await Client(link).flags.get("beta", "u_1", person_properties={"a": "long"})


@pytest.mark.parametrize("blank", ["", " ", "\ufeff", "undefined", "[object Promise]"])
async def test_a_placeholder_id_is_not_merged(blank: str) -> None:
    link = FakeLink()
    await Client(link).persons.alias("u", blank)
    await Client(link).persons.alias(blank, "u")
    assert link.published == []

"""In which time zone somebody lives (contract 4.2), and property conditions (4.3)."""

from __future__ import annotations

import msgspec
import pytest

from hogsend.contract.conditions import (
    ANALYTICS_CONDITIONS,
    Condition,
    ConditionQuery,
    EvaluateConditions,
)
from hogsend.contract.errors import InvalidRequest, Unavailable
from hogsend.contract.users import User
from tests.integration.analytics.reading import PERSONAL, reading
from tests.integration.harness import client
from tests.servers import Servers
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("fresh_bus")

EVERYTHING = {"$timezone": "Europe/London", "$geoip_time_zone": "America/New_York"}


async def test_case_103_the_first_that_is_known_wins(servers: Servers, database_url: str) -> None:
    ours = {"default_timezone": "Europe/Madrid"}
    async with reading(servers, database_url, personal_key=PERSONAL, settings=ours) as world:
        world.posthog.persons |= {
            "all": EVERYTHING,
            "geoip": {"$timezone": "", "$geoip_time_zone": "america/new_york"},
            "none": {"$timezone": 5},
        }
        await world.contact("all", timezone="Asia/Tokyo")
        await world.contact("column", timezone="Asia/Tokyo")
        await world.contacts.fill_timezone("column", "Asia/Seoul")
        await world.contact("property", timezone="Asia/Tokyo")
        found = {
            id: await world.member.timezone(id) for id in ("all", "geoip", "column", "property")
        }
        assert {id: (one.timezone, one.source) for id, one in found.items()} == {
            "all": ("Europe/London", "posthog_timezone"),
            "geoip": ("America/New_York", "posthog_geoip"),
            "column": ("Asia/Seoul", "contact_column"),
            "property": ("Asia/Tokyo", "contact_properties"),
        }
        mine = await world.member.timezone("none", default="Asia/Kolkata")
        assert (mine.timezone, mine.source) == ("Asia/Kolkata", "default")
        theirs = await world.member.timezone("none")
        assert (theirs.timezone, theirs.source) == ("Europe/Madrid", "default")
        chosen = await world.member.timezone("all", explicit="Africa/Cairo")
        assert (chosen.timezone, chosen.source) == ("Africa/Cairo", "explicit")


async def test_case_104_what_is_no_zone_is_skipped_with_one_warning(
    servers: Servers, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with reading(servers, database_url, personal_key=PERSONAL) as world:
        world.posthog.persons["u_1"] = {"$timezone": "Mars/Olympus"}
        await world.contact("u_1", timezone="Asia/Tokyo")
        found = await world.member.timezone("u_1")
        assert (found.timezone, found.source) == ("Asia/Tokyo", "contact_properties")
    assert capsys.readouterr().out.count("skipped what is no time zone") == 1


async def test_case_105_nothing_known_is_utc_and_a_wrong_explicit_zone_is_an_error(
    servers: Servers, database_url: str
) -> None:
    async with reading(servers, database_url) as world:
        assert (await world.member.timezone("u_1")).timezone == "UTC"
        for wrong in ("Mars/Olympus", "", "../../etc/passwd"):
            with pytest.raises(InvalidRequest, match="time zone"):
                await world.member.timezone("u_1", explicit=wrong)


async def test_case_106_a_zone_from_posthog_fills_the_empty_column(
    servers: Servers, database_url: str
) -> None:
    async with reading(servers, database_url, personal_key=PERSONAL) as world:
        world.posthog.persons |= {"u_1": EVERYTHING, "u_2": EVERYTHING}
        await world.contact("u_1")
        await world.contact("u_2")
        await world.contacts.fill_timezone("u_2", "Asia/Tokyo")
        await world.member.timezone("u_1")
        await world.member.timezone("u_2")

        async def filled() -> bool:
            return (await world.known("u_1")).timezone == "Europe/London"

        await eventually(filled)
        assert (await world.known("u_2")).timezone == "Asia/Tokyo"


async def test_without_analytics_the_callers_default_stands_in(servers: Servers) -> None:
    async with client(servers, User.APP) as member:
        mine = await member.timezone("u_1", default="Asia/Tokyo")
        assert (mine.timezone, mine.source) == ("Asia/Tokyo", "default")
        assert (await member.timezone("u_1")).source == "fallback"
        with pytest.raises(Unavailable):
            await member.conditions_met(["u_1"], [])


async def test_conditions_look_at_the_person_and_else_at_the_contact(
    servers: Servers, database_url: str
) -> None:
    pro = [Condition(property="plan", operator="eq", value="pro")]
    async with reading(servers, database_url, personal_key=PERSONAL) as world:
        world.posthog.persons |= {"person": {"plan": "pro"}, "other": {"plan": "free"}}
        await world.contact("contact", plan="pro")
        await world.contact("other", plan="pro")
        people = ["person", "contact", "other", "nobody"]
        assert await world.member.conditions_met(people, pro) == [True, True, False, False]
        assert await world.member.conditions_met(["person"], []) == [True]
        # The batch form asks different things about different people.
        queries = [
            ConditionQuery("person", pro),
            ConditionQuery("person", [Condition(property="plan", operator="not_exists")]),
        ]
        results = await world.member.connection.request(
            ANALYTICS_CONDITIONS, EvaluateConditions(queries)
        )
        assert results.results == [True, False]


@pytest.mark.parametrize(
    "condition",
    [
        {"property": "plan", "operator": "eq"},
        {"property": "plan", "operator": "like", "value": "x"},
        {"property": 5, "operator": "exists"},
        {"type": "event", "property": "plan", "operator": "exists"},
        {"operator": "exists"},
    ],
)
async def test_a_wrong_condition_is_a_typed_error(
    servers: Servers, database_url: str, condition: dict[str, object]
) -> None:

    async with reading(servers, database_url) as world:
        query = {"queries": [{"distinctId": "u_1", "conditions": [condition]}]}
        answer = await world.member.connection.client.request(
            ANALYTICS_CONDITIONS.subject, msgspec.json.encode(query), timeout=5
        )
        assert (answer.headers or {})["Nats-Service-Error-Code"] == "invalid_request"

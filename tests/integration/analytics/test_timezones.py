"""Time zones (contract 4.2) and property conditions (4.3) over the bus, with ingest's contacts.

Tests that need no server are in `tests/unit/analytics`.
"""

from __future__ import annotations

import pytest

from hogsend.contract.conditions import (
    ANALYTICS_CONDITIONS,
    Condition,
    ConditionQuery,
    EvaluateConditions,
)
from tests.integration.analytics.reading import PERSONAL, reading
from tests.servers import Servers
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("fresh_bus")

EVERYTHING = {"$timezone": "Europe/London", "$geoip_time_zone": "America/New_York"}
PRO = [Condition(property="plan", operator="eq", value="pro")]


async def test_case_106_time_zones_and_conditions_use_persons_and_contacts(
    servers: Servers, database_url: str
) -> None:
    async with reading(servers, database_url, personal_key=PERSONAL) as world:
        world.posthog.persons |= {
            "u_1": EVERYTHING,
            "u_2": EVERYTHING,
            "person": {"plan": "pro"},
            "other": {"plan": "free"},
        }
        # A time zone from PostHog is stored only for a contact without one.
        await world.contact("u_1")
        await world.contact("u_2")
        await world.contacts.fill_timezone("u_2", "Asia/Tokyo")
        for user in ("u_1", "u_2"):
            zone = await world.member.timezone(user)
            assert (zone.timezone, zone.source) == ("Europe/London", "posthog_timezone")

        async def filled() -> bool:
            return (await world.stored_contact("u_1")).timezone == "Europe/London"

        await eventually(filled)
        assert (await world.stored_contact("u_2")).timezone == "Asia/Tokyo"

        await world.contact("contact", plan="pro", timezone="Asia/Seoul")
        await world.contact("other", plan="pro")
        zone = await world.member.timezone("contact")
        assert (zone.timezone, zone.source) == ("Asia/Seoul", "contact_properties")
        # A contact is found by the id of its report, although PostgreSQL cannot store NUL.
        await world.contact("nul\0", timezone="Asia/Seoul")
        assert (await world.member.timezone("nul\0")).source == "contact_properties"
        people = ["person", "contact", "other", "unknown"]
        assert await world.member.conditions_met(people, PRO) == [True, True, False, False]
        # A batch has different conditions for different people.
        queries = [
            ConditionQuery("person", PRO),
            ConditionQuery("person", [Condition(property="plan", operator="not_exists")]),
        ]
        results = await world.member.connection.request(
            ANALYTICS_CONDITIONS, EvaluateConditions(queries)
        )
        assert results.results == [True, False]

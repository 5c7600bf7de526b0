"""Person reads over the bus (contract 12.6), with the credentials service and a recording PostHog.

What does not need a server is in `tests/unit/analytics/test_person_reader.py`.
"""

from __future__ import annotations

import pytest

from hogsend import Condition
from tests.integration.analytics.reading import PERSONAL, reading
from tests.servers import Servers
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("fresh_bus")

PLAN = {"plan": "pro"}


async def test_cases_93_95_and_100_oauth_comes_first_the_moment_it_is_stored(
    servers: Servers, database_url: str
) -> None:
    async with reading(servers, database_url, personal_key=PERSONAL) as world:
        world.posthog.persons["u_42"] = PLAN
        assert await world.member.persons.get("u_42") == PLAN
        assert world.posthog.lines() == [
            "GET /api/projects/@current/",
            "GET /api/projects/4242/persons/?distinct_id=u_42",
        ]
        await world.connect("pha_1")

        async def reads_with(token: str) -> bool:
            assert await world.member.persons.get("u_42") == PLAN
            return world.bearers()[-1] == token

        await eventually(lambda: reads_with("pha_1"), 5)
        await world.disconnect()
        await eventually(lambda: reads_with(PERSONAL), 5)


async def test_a_token_that_posthog_refuses_is_replaced_once(
    servers: Servers, database_url: str
) -> None:
    async with reading(servers, database_url, personal_key=PERSONAL) as world:
        world.posthog.accepts = {PERSONAL}
        world.posthog.persons["u_42"] = PLAN
        # The refresh of the refused token fails as well, so that the personal key is next.
        world.posthog.refuse("POST", "/oauth/token/", 400, {"error": "invalid_grant"})
        await world.connect("pha_dead")
        assert await world.member.persons.get("u_42") == PLAN
        assert world.bearers("/api/")[0] == "pha_dead"
        assert world.bearers("/api/")[-1] == PERSONAL


async def test_a_service_reads_its_own_writes_at_once(servers: Servers, database_url: str) -> None:
    key = {"posthog_api_key": "phc_test"}
    async with reading(servers, database_url, personal_key=PERSONAL, posthog=key) as world:
        world.posthog.persons["u_42"] = {"plan": "free", "city": "Rome"}
        assert await world.member.persons.get("u_42") == {"plan": "free", "city": "Rome"}
        for plan in ("pro", "team", "free", "pro"):
            await world.member.persons.set("u_42", {"plan": plan}, unset=["city"])
            # What is cached is the old one, and this PostHog never catches up.
            assert await world.member.persons.get("u_42") == {"plan": plan}
            condition = Condition(property="plan", operator="eq", value=plan)
            met = await world.member.conditions_met(["u_42"], [condition])
            assert met == [True]


async def test_without_a_project_key_a_write_has_no_effect_on_reads_either(
    servers: Servers, database_url: str
) -> None:
    async with reading(servers, database_url, personal_key=PERSONAL) as world:
        world.posthog.persons["u_42"] = PLAN
        await world.member.persons.set("u_42", {"plan": "team"})
        assert await world.member.persons.get("u_42") == PLAN

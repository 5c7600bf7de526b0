"""Person reads over the bus (contract 12.6), with the credentials service and a recording PostHog.

Tests that need no server are in `tests/unit/analytics/test_person_reader.py`.
"""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from hogsend import Condition
from hogsend.contract.destinations import CreateDestination
from services.analytics.destinations.store import DestinationStore
from tests.integration.analytics.reading import PERSONAL, reading
from tests.integration.harness import analytics_service
from tests.servers import Servers
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("fresh_bus")

PLAN = {"plan": "pro"}


async def test_cases_93_95_and_100_reads_use_an_oauth_grant_as_soon_as_it_is_stored(
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

        await eventually(lambda: reads_with("pha_1"))
        await world.disconnect()
        await eventually(lambda: reads_with(PERSONAL))


async def test_a_token_that_posthog_refuses_is_replaced_by_the_personal_key(
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
            # The cached person is outdated, and this PostHog never applies the write.
            assert await world.member.persons.get("u_42") == {"plan": plan}
            condition = Condition(property="plan", operator="eq", value=plan)
            met = await world.member.conditions_met(["u_42"], [condition])
            assert met == [True]


async def test_every_replica_reads_every_write_at_once(servers: Servers, database_url: str) -> None:
    key = {"posthog_api_key": "phc_test"}
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(
            reading(servers, database_url, personal_key=PERSONAL, posthog=key)
        )
        other = {"posthog_host": world.posthog.url, **key}
        await stack.enter_async_context(analytics_service(servers, database_url, posthog=other))
        await DestinationStore(world.analytics.database).create(
            CreateDestination(
                url="posthog://capture",
                kind="posthog",
                event_types=["contact.updated"],
                config={"syncPersons": True},
            )
        )
        world.posthog.persons["u_42"] = {"plan": "free"}
        for number, method in enumerate(("set", "capture", "contact") * 4):
            properties = {"plan": f"{method} {number}"}
            if method == "set":
                await world.member.persons.set("u_42", properties)
            elif method == "capture":
                await world.member.capture("upgraded", "u_42", {"$set": properties})
            else:
                changed = {"externalId": "u_42", "properties": properties}
                await world.member.engagement.report("contact.updated", changed)
            # Either of the two replicas handles the request.
            for _ in range(6):
                assert await world.member.persons.get("u_42") == properties
            condition = Condition(property="plan", operator="eq", value=properties["plan"])
            assert await world.member.conditions_met(["u_42"], [condition]) == [True]


async def test_without_a_project_key_a_write_does_not_change_reads(
    servers: Servers, database_url: str
) -> None:
    async with reading(servers, database_url, personal_key=PERSONAL) as world:
        world.posthog.persons["u_42"] = PLAN
        await world.member.persons.set("u_42", {"plan": "team"})
        assert await world.member.persons.get("u_42") == PLAN

"""Person reads over the bus (contract 12.6), with the credentials service and a recording PostHog.

What does not need a server is in `tests/unit/analytics/test_person_reader.py`.
"""

from __future__ import annotations

import pytest

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

"""Feature flags over the bus (contract 4.6), and the event that reports an evaluation.

Tests that need no server are in `tests/unit/analytics/test_flag_reader.py`.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.analytics.reading import reading
from tests.servers import Servers
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("fresh_bus")

KEY = {"posthog_api_key": "phc_test"}


async def test_case_108_without_a_project_key_flags_are_undefined_and_no_request_fails(
    servers: Servers, database_url: str
) -> None:
    async with reading(servers, database_url) as world:
        assert await world.member.flags.get("beta", "u_1") is None
        assert await world.member.flags.all("u_1") == {}
        assert world.posthog.requests == []


async def test_flags_return_their_values_and_each_evaluation_is_reported_once(
    servers: Servers, database_url: str
) -> None:
    async with reading(servers, database_url, posthog=KEY) as world:
        world.posthog.flags = {
            "beta": {"enabled": True, "variant": "blue", "metadata": {"id": 7, "version": 3}},
            "off": {"enabled": False},
        }
        for _ in range(3):
            value = await world.member.flags.get("beta", "u_1", groups={"company": "c_1"})
            assert value == "blue"
        assert await world.member.flags.get("off", "u_1") is False
        assert await world.member.flags.get("unknown", "u_1") is None
        assert await world.member.flags.all("u_1") == {"beta": "blue", "off": False}

        def reported() -> list[Any]:
            batches = [
                request.body for request in world.posthog.requests if request.path == "/batch/"
            ]
            return [event for batch in batches for event in batch["batch"]]

        await eventually(lambda: len(reported()) == 2)
        called = {event["properties"]["$feature_flag"]: event for event in reported()}
        assert called["beta"]["event"] == "$feature_flag_called"
        assert called["beta"]["properties"]["$feature_flag_response"] == "blue"
        assert called["beta"]["properties"]["$groups"] == {"company": "c_1"}
        assert called["off"]["properties"]["$feature_flag_response"] is False

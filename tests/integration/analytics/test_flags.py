"""Feature flags over the bus (contract 4.6)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.analytics.reading import reading
from tests.servers import Servers
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("fresh_bus")

KEY = {"posthog_api_key": "phc_test"}


def flag(value: bool | str = True, **changes: Any) -> dict[str, Any]:
    return {
        "enabled": bool(value),
        "variant": value if isinstance(value, str) else None,
        "reason": {"description": "Matched condition set 1"},
        "metadata": {"id": 7, "version": 3, "payload": None},
        **changes,
    }


async def test_case_108_without_a_project_key_flags_are_undefined_and_nothing_fails(
    servers: Servers, database_url: str
) -> None:
    async with reading(servers, database_url) as world:
        assert await world.member.flags.get("beta", "u_1") is None
        assert await world.member.flags.all("u_1") == {}
        assert world.posthog.requests == []


async def test_flags_have_their_values_and_a_call_is_told_once(
    servers: Servers, database_url: str
) -> None:
    async with reading(servers, database_url, posthog=KEY) as world:
        world.posthog.flags = {
            "beta": flag("blue", metadata={"id": 7, "version": 3, "payload": '{"size": 1}'}),
            "off": flag(value=False),
            "broken": flag(failed=True),
        }
        member = world.member
        for _ in range(3):
            assert await member.flags.get("beta", "u_1", groups={"company": "c_1"}) == "blue"
        assert await member.flags.get("off", "u_1") is False
        assert await member.flags.get("broken", "u_1") is None
        assert await member.flags.get("unknown", "u_1") is None
        assert await member.flags.all("u_1") == {"beta": "blue", "off": False}

        def told() -> list[Any]:
            batches = [one.body for one in world.posthog.requests if one.path == "/batch/"]
            return [event for batch in batches for event in batch["batch"]]

        await eventually(lambda: len(told()) == 2, 30)
        called = {one["properties"]["$feature_flag"]: one for one in told()}
        assert called["beta"]["event"] == "$feature_flag_called"
        assert called["beta"]["properties"]["$feature_flag_response"] == "blue"
        assert called["beta"]["properties"]["$feature_flag_version"] == 3
        assert called["beta"]["properties"]["$groups"] == {"company": "c_1"}
        assert called["off"]["properties"]["$feature_flag_response"] is False
        asked = next(one.body for one in world.posthog.requests if one.path == "/flags/?v=2")
        assert asked == {
            "token": "phc_test",
            "distinct_id": "u_1",
            "groups": {"company": "c_1"},
            "person_properties": {},
            "group_properties": {},
            "geoip_disable": True,
            "flag_keys_to_evaluate": ["beta"],
        }


@pytest.mark.parametrize(("status", "body"), [(500, None), (401, {}), (200, b"<html>"), (302, {})])
async def test_a_posthog_that_does_not_answer_with_flags_says_nothing(
    servers: Servers, database_url: str, status: int, body: Any
) -> None:
    async with reading(servers, database_url, posthog=KEY) as world:
        world.posthog.refuse("POST", "/flags/", status, body)
        assert await world.member.flags.get("beta", "u_1") is None
        assert await world.member.flags.all("u_1") == {}

"""What others get while analytics does not run."""

from __future__ import annotations

from pathlib import Path

import pytest

from hogsend.contract.errors import InvalidRequest, Unavailable
from hogsend.contract.users import User
from tests.integration.harness import admin, client, gateway_service
from tests.servers import Servers


async def test_reads_are_empty_and_do_not_raise(servers: Servers) -> None:
    async with client(servers, User.APP) as app:
        assert await app.persons.get("u_42") == {}
        assert await app.flags.all("u_42") == {}


async def test_the_callers_default_stands_in(servers: Servers) -> None:
    async with client(servers, User.APP) as app:
        mine = await app.timezone("u_1", default="Asia/Tokyo")
        assert (mine.timezone, mine.source) == ("Asia/Tokyo", "default")
        assert (await app.timezone("u_1")).source == "fallback"
        with pytest.raises(Unavailable):
            await app.conditions_met(["u_1"], [])


async def test_a_time_zone_that_is_given_needs_nobody(servers: Servers) -> None:
    async with client(servers, User.APP) as app:
        mine = await app.timezone("u_1", explicit=" asia/tokyo", default="Europe/Berlin")
        assert (mine.timezone, mine.source) == ("Asia/Tokyo", "explicit")
        moment = await app.when("u_1", hour=9, explicit="Asia/Tokyo")
        assert (moment.at.hour, moment.source) == (9, "explicit")
        for wrong in ("Mars", ""):
            with pytest.raises(InvalidRequest):
                await app.timezone("u_1", explicit=wrong)


async def test_a_default_is_read_as_analytics_reads_it(servers: Servers) -> None:
    async with client(servers, User.APP) as app:
        mine = await app.timezone("u_1", default="asia/TOKYO ")
        assert (mine.timezone, mine.source) == ("Asia/Tokyo", "default")
        none = await app.timezone("u_1", default="Mars")
        assert (none.timezone, none.source) == ("UTC", "fallback")
        assert (await app.when("u_1", hour=9, default="Mars")).timezone == "UTC"


async def test_destinations_are_a_typed_503(servers: Servers, tmp_path: Path) -> None:
    async with gateway_service(servers, tmp_path, wait_for_secret=False) as front:
        answer = await front.http.get("/v1/admin/webhooks", headers=admin())
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert "analytics" in answer.json()["error"]

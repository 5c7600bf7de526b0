"""Results of reads and requests while analytics does not run."""

from __future__ import annotations

from pathlib import Path

import pytest

from hogsend.contract.errors import InvalidRequest, Unavailable
from hogsend.contract.users import User
from tests.integration.harness import admin, client, gateway_service
from tests.servers import Servers


async def test_persons_and_flags_are_empty_without_analytics(servers: Servers) -> None:
    async with client(servers, User.APP) as app:
        assert await app.persons.get("u_42") == {}
        assert await app.flags.all("u_42") == {}


async def test_the_callers_default_is_the_time_zone_without_analytics(servers: Servers) -> None:
    async with client(servers, User.APP) as app:
        zone = await app.timezone("u_1", default="Asia/Tokyo")
        assert (zone.timezone, zone.source) == ("Asia/Tokyo", "default")
        assert (await app.timezone("u_1")).source == "fallback"
        with pytest.raises(Unavailable):
            await app.conditions_met(["u_1"], [])


async def test_an_explicit_time_zone_is_used_without_analytics(servers: Servers) -> None:
    async with client(servers, User.APP) as app:
        zone = await app.timezone("u_1", explicit=" asia/tokyo", default="Europe/Berlin")
        assert (zone.timezone, zone.source) == ("Asia/Tokyo", "explicit")
        moment = await app.when("u_1", hour=9, explicit="Asia/Tokyo")
        assert (moment.at.hour, moment.source) == (9, "explicit")
        for wrong in ("Mars", ""):
            with pytest.raises(InvalidRequest):
                await app.timezone("u_1", explicit=wrong)


async def test_a_default_is_normalized_or_ignored_as_analytics_does(servers: Servers) -> None:
    async with client(servers, User.APP) as app:
        zone = await app.timezone("u_1", default="asia/TOKYO ")
        assert (zone.timezone, zone.source) == ("Asia/Tokyo", "default")
        fallback = await app.timezone("u_1", default="Mars")
        assert (fallback.timezone, fallback.source) == ("UTC", "fallback")
        assert (await app.when("u_1", hour=9, default="Mars")).timezone == "UTC"


async def test_a_request_for_destinations_is_a_typed_503_without_analytics(
    servers: Servers, tmp_path: Path
) -> None:
    async with gateway_service(servers, tmp_path, wait_for_secret=False) as front:
        response = await front.http.get("/v1/admin/webhooks", headers=admin())
    assert (response.status_code, response.json()["code"]) == (503, "unavailable")
    assert "analytics" in response.json()["error"]

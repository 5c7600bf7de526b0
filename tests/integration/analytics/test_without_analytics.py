"""What others get while analytics does not run."""

from __future__ import annotations

from pathlib import Path

import pytest

from hogsend.contract.errors import Unavailable
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


async def test_destinations_are_a_typed_503(servers: Servers, tmp_path: Path) -> None:
    async with gateway_service(servers, tmp_path, wait_for_secret=False) as front:
        answer = await front.http.get("/v1/admin/webhooks", headers=admin())
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert "analytics" in answer.json()["error"]

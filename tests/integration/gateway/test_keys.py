"""Keys that are rotated, and keys that are guessed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.harness import ADMIN_KEY, Gateway, admin, gateway
from tests.servers import Servers

pytestmark = pytest.mark.usefixtures("fresh_bus")

URL = "/v1/admin/capabilities"


async def status(front: Gateway, key: str | None) -> int:
    headers = {"Authorization": f"Bearer {key}"} if key is not None else {}
    return (await front.http.get(URL, headers=headers)).status_code


async def test_two_keys_are_valid_while_one_is_rotated(servers: Servers, tmp_path: Path) -> None:
    keys = {
        "admin_api_key_previous": "k-old, k-older",
        "admin_read_api_key_previous": "k-old-reader",
        "ingest_api_key_previous": "k-old-reporter",
    }
    async with gateway(servers, tmp_path, settings=keys, wait_for_secret=False) as front:
        found = [await status(front, key) for key in (ADMIN_KEY, "k-old", "k-older")]
        assert found == [200, 200, 200]
        assert await status(front, "k-old-reader") == 200
        assert await status(front, "k-old-reporter") == 403
        assert await status(front, "k-old, k-older") == 401


async def test_an_address_that_guesses_is_kept_out_whatever_its_key(
    servers: Servers, tmp_path: Path
) -> None:
    limit = {"admin_failed_key_limit": 3}
    async with gateway(servers, tmp_path, settings=limit, wait_for_secret=False) as front:
        # No key is no guess.
        assert {await status(front, None) for _ in range(9)} == {401}
        assert [await status(front, f"k-{number}") for number in range(3)] == [401, 401, 401]
        kept_out = await front.http.get(URL, headers=admin())
        assert (kept_out.status_code, kept_out.headers["Retry-After"]) == (429, "60")
        assert kept_out.json() == {"error": "Too many wrong keys"}
        reported = await front.http.post("/v1/events", headers=admin(), json={})
        assert reported.status_code == 429
        # Webhooks have a secret of their own.
        delivered = await front.http.get("/livez")
        assert delivered.status_code == 200

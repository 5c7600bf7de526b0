"""Which credential a backfill queries PostHog with, and when it waits for one."""

from __future__ import annotations

from datetime import UTC, datetime

import httpx
import msgspec
import pytest

from hogsend.contract.credentials import TokenReply
from hogsend.posthog.api import EventRange, PostHogError
from services.provisioner.backfill.posthog_events import PostHogEvents, Refused
from services.provisioner.destination.provisioning import Instance
from tests.unit.provisioner.fakes import POSTHOG_URL, FakeCredentials

NONE = TokenReply(source="none", version=1)
PERSONAL = TokenReply(source="personal_key", version=1, token="phx_a")
RENEWED = TokenReply(source="oauth", version=2, token="pha_b")
JANUARY = EventRange(since=datetime(2026, 1, 1, tzinfo=UTC), until=datetime(2026, 2, 1, tzinfo=UTC))


def awaited(reply: TokenReply) -> TokenReply:
    """The reply that is used instead while the grant is not refreshed."""
    return msgspec.structs.replace(reply, not_refreshed="the token endpoint answered 503")


class Asked:
    """A PostHog that accepts some bearers, and returns a status for others."""

    def __init__(self, *accepted: str, status: int = 401) -> None:
        self.credentials = FakeCredentials()
        self._accepted, self._status = accepted, status
        http = httpx.AsyncClient(transport=httpx.MockTransport(self._answer))
        instance = Instance(POSTHOG_URL, "1", POSTHOG_URL)
        self.events = PostHogEvents(instance, self.credentials, http)

    async def count(self) -> int:
        return await self.events.query(lambda queries: queries.count(JANUARY))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if request.headers["Authorization"].removeprefix("Bearer ") in self._accepted:
            return httpx.Response(200, json={"results": [[7]]})
        return httpx.Response(self._status, json={"detail": "no"})


async def test_a_grant_that_is_not_refreshed_yet_is_waited_for() -> None:
    asked = Asked("pha_a")
    asked.credentials.token = awaited(NONE)
    with pytest.raises(PostHogError, match="not refreshed yet: the token endpoint answered 503"):
        await asked.count()
    asked.credentials.token = TokenReply(source="oauth", version=2, token="pha_a")
    assert await asked.count() == 7


async def test_a_grant_that_must_be_reconnected_is_not_waited_for() -> None:
    asked = Asked()
    asked.credentials.token = NONE
    with pytest.raises(Refused) as raised:
        await asked.count()
    assert raised.value.refusal.code == "no_posthog_credential"


@pytest.mark.parametrize("fallback", [NONE, PERSONAL])
async def test_a_refused_token_whose_refresh_fails_is_waited_for(fallback: TokenReply) -> None:
    asked = Asked()
    asked.credentials.fresh = awaited(fallback)
    with pytest.raises(PostHogError, match="not refreshed yet"):
        await asked.count()


async def test_a_refused_token_that_was_just_refreshed_is_not_waited_for() -> None:
    asked = Asked()
    asked.credentials.fresh = NONE
    with pytest.raises(Refused) as raised:
        await asked.count()
    assert raised.value.refusal.code == "unauthorized"


async def test_a_personal_key_in_place_of_the_grant_may_lack_its_scopes() -> None:
    asked = Asked(status=403)
    asked.credentials.token = awaited(PERSONAL)
    with pytest.raises(PostHogError, match="not refreshed yet"):
        await asked.count()
    asked.credentials.token = PERSONAL
    with pytest.raises(Refused) as raised:
        await asked.count()
    assert raised.value.refusal.code == "missing-scope"


async def test_a_personal_key_in_place_of_the_grant_is_used_if_it_suffices() -> None:
    asked = Asked("phx_a")
    asked.credentials.token = PERSONAL
    assert await asked.count() == 7


async def test_a_refused_token_is_replaced_once() -> None:
    asked = Asked("pha_b")
    asked.credentials.fresh = RENEWED
    assert await asked.count() == 7
    assert asked.credentials.rejected == ["pha_a"]


async def test_only_the_required_project_is_queried() -> None:
    asked = Asked("pha_a")

    async def count(project: str) -> int:
        return await asked.events.query(lambda queries: queries.count(JANUARY), project)

    assert await count(f"{POSTHOG_URL}/project/1") == 7
    for other in (f"{POSTHOG_URL}/project/2", "https://other.example/project/1"):
        with pytest.raises(Refused) as raised:
            await count(other)
        refusal = raised.value.refusal
        assert (refusal.reason, refusal.code) == ("precondition", "project_changed")
        assert other in (refusal.detail or "")
        assert "hogsend backfill" in (refusal.remediation or "")

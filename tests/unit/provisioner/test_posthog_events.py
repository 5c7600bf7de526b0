"""The credential with which a backfill queries PostHog, and when the backfill waits for it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

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


def not_refreshed(reply: TokenReply) -> TokenReply:
    """Return `reply` as the substitute for a grant that is not refreshed yet."""
    return msgspec.structs.replace(reply, not_refreshed="the token endpoint answered 503")


class FakePostHog:
    """A PostHog that accepts some bearers, and returns a status for others."""

    def __init__(
        self,
        *accepted: str,
        status: int = 401,
        host: str | None = POSTHOG_URL,
        project: str | None = "1",
    ) -> None:
        self.credentials = FakeCredentials()
        self.current: dict[str, Any] = {"id": 1}
        """PostHog's response for the current project."""
        self._accepted, self._status = accepted, status
        http = httpx.AsyncClient(transport=httpx.MockTransport(self._respond))
        instance = Instance(host, project, POSTHOG_URL)
        self.events = PostHogEvents(instance, self.credentials, http)

    async def count(self) -> int:
        return await self.events.query(lambda queries: queries.count(JANUARY))

    def _respond(self, request: httpx.Request) -> httpx.Response:
        if request.headers["Authorization"].removeprefix("Bearer ") in self._accepted:
            if request.url.path.endswith("@current/"):
                return httpx.Response(200, json=self.current)
            assert "/projects/1/" in request.url.path
            return httpx.Response(200, json={"results": [[7]]})
        return httpx.Response(self._status, json={"detail": "no"})


async def test_a_backfill_waits_for_a_grant_that_is_not_refreshed_yet() -> None:
    posthog = FakePostHog("pha_a")
    posthog.credentials.token = not_refreshed(NONE)
    with pytest.raises(PostHogError, match="not refreshed yet: the token endpoint answered 503"):
        await posthog.count()
    posthog.credentials.token = TokenReply(source="oauth", version=2, token="pha_a")
    assert await posthog.count() == 7


async def test_a_backfill_is_refused_when_the_grant_must_be_reconnected() -> None:
    posthog = FakePostHog()
    posthog.credentials.token = NONE
    with pytest.raises(Refused) as raised:
        await posthog.count()
    assert raised.value.refusal.code == "no_posthog_credential"


@pytest.mark.parametrize("fallback", [NONE, PERSONAL])
async def test_a_backfill_waits_when_the_refresh_of_a_refused_token_fails(
    fallback: TokenReply,
) -> None:
    posthog = FakePostHog()
    posthog.credentials.fresh = not_refreshed(fallback)
    with pytest.raises(PostHogError, match="not refreshed yet"):
        await posthog.count()


async def test_a_backfill_is_refused_when_a_just_refreshed_token_is_refused() -> None:
    posthog = FakePostHog()
    posthog.credentials.fresh = NONE
    with pytest.raises(Refused) as raised:
        await posthog.count()
    assert raised.value.refusal.code == "unauthorized"


async def test_a_backfill_waits_when_the_substitute_personal_key_lacks_scopes() -> None:
    posthog = FakePostHog(status=403)
    posthog.credentials.token = not_refreshed(PERSONAL)
    with pytest.raises(PostHogError, match="not refreshed yet"):
        await posthog.count()
    posthog.credentials.token = PERSONAL
    with pytest.raises(Refused) as raised:
        await posthog.count()
    assert raised.value.refusal.code == "missing-scope"


async def test_a_personal_key_is_used_without_a_grant() -> None:
    posthog = FakePostHog("phx_a")
    posthog.credentials.token = PERSONAL
    assert await posthog.count() == 7


async def test_a_refused_token_is_replaced_once() -> None:
    posthog = FakePostHog("pha_b")
    posthog.credentials.fresh = RENEWED
    assert await posthog.count() == 7
    assert posthog.credentials.rejected == ["pha_a"]


async def test_a_refused_personal_key_is_not_replaced() -> None:
    posthog = FakePostHog("pha_b")
    posthog.credentials.token, posthog.credentials.fresh = PERSONAL, RENEWED
    with pytest.raises(Refused) as raised:
        await posthog.count()
    assert raised.value.refusal.code == "unauthorized"
    assert posthog.credentials.rejected == []


@pytest.mark.parametrize("status", [403, 503])
async def test_a_token_is_not_replaced_for_another_error_than_401(status: int) -> None:
    posthog = FakePostHog(status=status)
    with pytest.raises(Refused if status == 403 else PostHogError):
        await posthog.count()
    assert posthog.credentials.rejected == []


async def test_a_backfill_without_a_posthog_host_is_refused_with_the_setting() -> None:
    posthog = FakePostHog("pha_a", host=None)
    with pytest.raises(Refused) as raised:
        await posthog.count()
    assert raised.value.refusal.code == "posthog_not_configured"
    assert "POSTHOG_HOST" in (raised.value.refusal.remediation or "")


async def test_the_current_project_is_queried_when_none_is_chosen() -> None:
    posthog = FakePostHog("pha_a", project=None)
    assert await posthog.count() == 7
    posthog.current = {}
    with pytest.raises(Refused) as raised:
        await posthog.count()
    assert raised.value.refusal.code == "project-discovery-failed"
    assert "POSTHOG_PROJECT_ID" in (raised.value.refusal.remediation or "")


@pytest.mark.parametrize(("status", "teams"), [(403, [2]), (403, [1]), (503, [2])])
async def test_a_project_outside_the_grant_is_named_where_it_is_the_reason(
    status: int, teams: list[int]
) -> None:
    posthog = FakePostHog(status=status)
    posthog.credentials.token = TokenReply(
        source="oauth", version=1, token="pha_a", scoped_teams=teams
    )
    with pytest.raises(Refused if status == 403 else PostHogError) as raised:
        await posthog.count()
    if isinstance(raised.value, Refused):
        refusal = raised.value.refusal
        assert refusal.code == "missing-scope"
        assert ("the grant covers" in (refusal.detail or "")) is (teams == [2])
        assert ("POSTHOG_PROJECT_ID to 2" in (refusal.remediation or "")) is (teams == [2])


async def test_only_the_required_project_is_queried() -> None:
    posthog = FakePostHog("pha_a")

    async def count(project: str) -> int:
        return await posthog.events.query(lambda queries: queries.count(JANUARY), project)

    assert await count(f"{POSTHOG_URL}/project/1") == 7
    for other in (f"{POSTHOG_URL}/project/2", "https://other.example/project/1"):
        with pytest.raises(Refused) as raised:
            await count(other)
        refusal = raised.value.refusal
        assert (refusal.reason, refusal.code) == ("precondition", "project_changed")
        assert other in (refusal.detail or "")
        assert "hogsend backfill" in (refusal.remediation or "")

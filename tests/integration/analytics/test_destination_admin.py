"""Destinations by admin route (contract 6.6).

What needs no route is in `test_destination_store.py` and in the unit tests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from nats.js.errors import NotFoundError

from hogsend.contract.destinations import (
    ANALYTICS_LIST_DESTINATIONS,
    ListDestinations,
)
from hogsend.contract.errors import Forbidden
from hogsend.contract.streams import StreamName
from hogsend.contract.users import User
from tests.capture_recorder import CaptureRecorder, capture_recorder
from tests.integration.analytics.sending import Sending, replica, sending, until_consumed
from tests.integration.harness import READ_KEY, Gateway, admin, connected, gateway_service
from tests.servers import Servers
from tests.waiting import eventually

URL = "/v1/admin/webhooks"
BODY: dict[str, Any] = {
    "url": "posthog://capture",
    "kind": "posthog",
    "eventTypes": ["email.opened", "contact.deleted"],
    "config": {"apiKey": "phc_own", "syncPersons": True, "note": "kept"},
}


@dataclass
class Admin:
    """An operator, what sends, and what PostHog got."""

    front: Gateway
    sent: Sending
    posthog: CaptureRecorder

    async def ask(self, method: str, path: str = "", **body: Any) -> Any:
        """Ask the admin route; the answer."""
        document = body if method in {"POST", "PATCH"} else None
        return await self.front.http.request(method, f"{URL}{path}", headers=admin(), json=document)

    async def make(self, **changes: Any) -> Any:
        """Make a destination that captures at the recorder."""
        config = {**BODY["config"], "host": self.posthog.url}
        answer = await self.ask("POST", **{**BODY, "config": config, **changes})
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def history(self, id: str, query: str = "") -> list[tuple[str, str, int]]:
        """Type, status and attempts of a destination's deliveries."""
        page = (await self.ask("GET", f"/{id}/deliveries{query}")).json()
        return [(one["eventType"], one["status"], one["attempts"]) for one in page["deliveries"]]


@dataclass
class Stack:
    """What every test of this module uses."""

    front: Gateway
    sent: Sending
    database_url: str


@pytest.fixture(scope="module")
async def stack(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """One gateway and one analytics for the module."""
    await servers.empty_bus()
    async with (
        servers.fresh_database() as database_url,
        sending(servers, database_url, "http://127.0.0.1:9") as sent,
        gateway_service(
            servers, tmp_path_factory.mktemp("gateway"), wait_for_secret=False
        ) as front,
    ):
        yield Stack(front, sent, database_url)


@pytest.fixture
async def operator(stack: Stack) -> AsyncIterator[Admin]:
    """An operator without any destination, and a PostHog that nothing was sent to."""
    async with capture_recorder() as posthog:
        yield Admin(stack.front, stack.sent, posthog)
        for stored in await stack.sent.store.all():
            await stack.front.http.delete(f"{URL}/{stored.id}", headers=admin())


async def test_case_148_a_key_is_shown_as_stars_and_there_is_no_secret(operator: Admin) -> None:
    made = await operator.make()
    assert made["config"] == {
        "apiKey": "***",
        "syncPersons": True,
        "note": "kept",
        "host": operator.posthog.url,
    }
    assert made["secretPrefix"] is None
    assert "secret" not in made
    assert (made["disabled"], made["description"], made["kind"]) == (False, None, "posthog")
    shown = await operator.ask("GET", f"/{made['id']}")
    assert shown.json() == made
    page = (await operator.ask("GET")).json()
    assert page == {"webhooks": [made], "endpoints": [made], "total": 1, "limit": 50, "offset": 0}
    refused = await operator.ask("POST", f"/{made['id']}/rotate-secret")
    assert refused.status_code == 400
    for answer in (shown, refused):
        assert "phc_own" not in answer.text


async def test_case_147_a_test_event_goes_to_one_destination_only(operator: Admin) -> None:
    one, other = await operator.make(), await operator.make()
    answer = await operator.ask("POST", f"/{one['id']}/test")
    assert (answer.status_code, answer.json()) == (
        202,
        {"enqueued": True, "eventType": "webhook.test"},
    )
    await eventually(lambda: operator.posthog.events)
    (captured,) = operator.posthog.events
    assert (captured["event"], captured["distinct_id"]) == ("webhook.test", f"test_{one['id']}")
    assert captured["properties"]["endpointId"] == one["id"]
    assert operator.posthog.keys == ["phc_own"]

    async def recorded() -> bool:
        return await operator.history(one["id"]) == [("webhook.test", "delivered", 1)]

    await eventually(recorded)
    assert await operator.history(other["id"]) == []
    assert (await operator.ask("GET", f"/{one['id']}")).json()["lastDeliveryAt"]
    assert (await operator.ask("GET", f"/{other['id']}")).json()["lastDeliveryAt"] is None


async def test_engagement_waits_for_a_destination_from_the_moment_it_is_made(
    operator: Admin,
) -> None:
    for _ in range(5):
        made = await operator.make()
        await operator.sent.member.engagement.report("email.opened", {"userId": "u_1"})
        await operator.ask("DELETE", f"/{made['id']}")
    made = await operator.make()
    await operator.sent.member.engagement.report("email.opened", {"userId": "u_2"})
    await eventually(lambda: operator.posthog.of("u_2"))
    assert await operator.history(made["id"], "?status=failed") == []


async def test_cases_129_and_134_what_is_skipped_is_in_the_history(operator: Admin) -> None:
    made = await operator.make()
    report = operator.sent.member.engagement.report
    await report("contact.deleted", {"externalId": "u_1"})
    await report("email.opened", {"userId": "u_1"})
    await eventually(lambda: operator.posthog.events)

    async def recorded() -> bool:
        return len(await operator.history(made["id"])) == 2

    await eventually(recorded)
    assert set(await operator.history(made["id"])) == {
        ("contact.deleted", "skipped", 1),
        ("email.opened", "delivered", 1),
    }
    assert await operator.history(made["id"], "?status=skipped") == [
        ("contact.deleted", "skipped", 1)
    ]


async def test_a_paused_destination_discards_and_a_resumed_one_sends(operator: Admin) -> None:
    made = await operator.make()
    report = operator.sent.member.engagement.report
    paused = await operator.ask("POST", f"/{made['id']}/pause")
    assert paused.json()["disabled"] is True
    active = (await operator.ask("GET", "?includeDisabled=false")).json()
    assert (active["webhooks"], active["total"]) == ([], 0)

    async def has(status: str) -> bool:
        # The sender reads destinations once a second.
        await report("email.opened", {"userId": "u_1"})
        return any(one[1] == status for one in await operator.history(made["id"]))

    await eventually(lambda: has("discarded"))
    resumed = await operator.ask("POST", f"/{made['id']}/resume")
    assert resumed.json()["disabled"] is False
    await eventually(lambda: has("delivered"))


async def test_a_change_keeps_what_it_does_not_name_and_the_key(operator: Admin) -> None:
    made = await operator.make(description="first")
    path = f"/{made['id']}"
    changed = (await operator.ask("PATCH", path, eventTypes=["email.sent", "email.sent"])).json()
    assert (changed["eventTypes"], changed["description"]) == (["email.sent"], "first")
    changed = (await operator.ask("PATCH", path, config={"syncPersons": False})).json()
    kept = {"apiKey": "***", "host": operator.posthog.url, "note": "kept"}
    assert changed["config"] == {**kept, "syncPersons": False}
    refused = await operator.ask("PATCH", path, config={"apiKey": "***", "host": "http://x.y"})
    assert refused.status_code == 400
    away: dict[str, Any] = {"apiKey": None, "host": None, "note": None}
    changed = (await operator.ask("PATCH", path, description=None, config=away)).json()
    assert (changed["config"], changed["description"]) == ({"syncPersons": False}, None)


async def test_case_143_a_pause_and_a_resume_are_in_force_when_they_are_answered(
    stack: Stack, operator: Admin, servers: Servers
) -> None:
    """Whichever replica answers: one of three, of which one sends."""
    made = await operator.make()
    durable = f"destination-{made['id']}"
    report = operator.sent.member.engagement.report
    one_more = partial(replica, servers, stack.database_url, posthog={"posthog_api_key": "phc_x"})
    async with one_more(), one_more():
        for number in range(5):
            assert (await operator.ask("POST", f"/{made['id']}/pause")).status_code == 200
            await report("email.opened", {"userId": f"paused_{number}"})
            await until_consumed(operator.sent, StreamName.ENGAGEMENT, durable)
            assert (await operator.ask("POST", f"/{made['id']}/resume")).status_code == 200
            await report("email.opened", {"userId": f"resumed_{number}"})
            await until_consumed(operator.sent, StreamName.ENGAGEMENT, durable)
    found = [event["distinct_id"] for event in operator.posthog.events]
    assert found == [f"resumed_{number}" for number in range(5)]


@pytest.mark.parametrize(
    "changes",
    [
        # What the contract, the service and PostgreSQL refuse; the rest is in the unit tests.
        {"eventTypes": []},
        {"config": {"host": "http://169.254.169.254"}},
        {"config": {"note": "a\0b"}},
    ],
)
async def test_bad_input_is_400_and_changes_nothing(
    operator: Admin, changes: dict[str, Any]
) -> None:
    answer = await operator.ask("POST", **{**BODY, **changes})
    assert answer.status_code == 400, answer.text
    assert "phc_own" not in answer.text
    assert (await operator.ask("GET")).json()["total"] == 0
    made = await operator.make()
    answer = await operator.ask("PATCH", f"/{made['id']}", **changes)
    assert answer.status_code == 400, answer.text
    assert (await operator.ask("GET", f"/{made['id']}")).json() == made


async def test_what_is_not_there_is_404(operator: Admin) -> None:
    for method, path in (
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("POST", "/pause"),
        ("POST", "/resume"),
        ("POST", "/test"),
        ("GET", "/deliveries"),
        ("POST", "/rotate-secret"),
    ):
        answer = await operator.ask(method, f"/{uuid4()}{path}")
        assert (answer.status_code, answer.json()) == (
            404,
            {"error": "Webhook endpoint not found"},
        ), (method, path)
    assert (await operator.ask("GET", "/7")).status_code == 404


async def test_a_deleted_destination_leaves_nothing_behind(operator: Admin) -> None:
    made = await operator.make()
    gone = await operator.ask("DELETE", f"/{made['id']}")
    assert (gone.status_code, gone.json()) == (200, {"deleted": True})
    assert (await operator.ask("GET", f"/{made['id']}")).status_code == 404

    async def without_consumer() -> bool:
        try:
            await operator.sent.operator.js.consumer_info(
                StreamName.ENGAGEMENT, f"destination-{made['id']}"
            )
        except NotFoundError:
            return True
        return False

    await eventually(without_consumer)


async def test_a_read_key_may_only_look(operator: Admin) -> None:
    made = await operator.make()
    headers = {"Authorization": f"Bearer {READ_KEY}"}
    path = f"{URL}/{made['id']}"
    http = operator.front.http
    assert (await http.get(URL, headers=headers)).status_code == 200
    assert (await http.get(path, headers=headers)).status_code == 200
    assert (await http.post(f"{path}/pause", headers=headers)).status_code == 403
    assert (await http.delete(path, headers=headers)).status_code == 403
    assert (await http.delete(path)).status_code == 401


async def test_members_may_not_manage_destinations(servers: Servers) -> None:
    async with connected(servers, User.APP) as member:
        with pytest.raises(Forbidden):
            await member.request(ANALYTICS_LIST_DESTINATIONS, ListDestinations())

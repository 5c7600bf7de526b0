"""Destinations over the admin routes (contract 6.6).

Tests that need no route are in `test_destination_store.py` and in the unit tests.
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
    """An operator, the replica that sends, and a PostHog that records captures."""

    front: Gateway
    sent: Sending
    posthog: CaptureRecorder

    async def request(self, method: str, path: str = "", **body: Any) -> Any:
        """Send a request to the admin route, and return its response."""
        document = body if method in {"POST", "PATCH"} else None
        return await self.front.http.request(method, f"{URL}{path}", headers=admin(), json=document)

    async def create(self, **changes: Any) -> Any:
        """Create a destination that captures at the recorder."""
        config = {**BODY["config"], "host": self.posthog.url}
        response = await self.request("POST", **{**BODY, "config": config, **changes})
        assert response.status_code == 201, response.text
        return response.json()

    async def history(self, id: str, query: str = "") -> list[tuple[str, str, int]]:
        """Type, status and attempts of a destination's deliveries."""
        page = (await self.request("GET", f"/{id}/deliveries{query}")).json()
        return [
            (delivery["eventType"], delivery["status"], delivery["attempts"])
            for delivery in page["deliveries"]
        ]


@dataclass
class Stack:
    """The services that all tests of this module share."""

    front: Gateway
    sent: Sending
    database_url: str


@pytest.fixture(scope="module")
async def stack(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """Run one gateway and one analytics for the module."""
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
    """An operator without destinations, and a PostHog that has received nothing."""
    async with capture_recorder() as posthog:
        yield Admin(stack.front, stack.sent, posthog)
        for stored in await stack.sent.store.all():
            await stack.front.http.delete(f"{URL}/{stored.id}", headers=admin())


async def test_case_148_a_destinations_key_is_masked_and_it_has_no_secret(operator: Admin) -> None:
    created = await operator.create()
    assert created["config"] == {
        "apiKey": "***",
        "syncPersons": True,
        "note": "kept",
        "host": operator.posthog.url,
    }
    assert created["secretPrefix"] is None
    assert "secret" not in created
    assert (created["disabled"], created["description"], created["kind"]) == (
        False,
        None,
        "posthog",
    )
    shown = await operator.request("GET", f"/{created['id']}")
    assert shown.json() == created
    page = (await operator.request("GET")).json()
    assert page == {
        "webhooks": [created],
        "endpoints": [created],
        "total": 1,
        "limit": 50,
        "offset": 0,
    }
    refused = await operator.request("POST", f"/{created['id']}/rotate-secret")
    assert refused.status_code == 400
    for response in (shown, refused):
        assert "phc_own" not in response.text


async def test_case_147_a_test_event_is_sent_to_one_destination_only(operator: Admin) -> None:
    tested, other = await operator.create(), await operator.create()
    response = await operator.request("POST", f"/{tested['id']}/test")
    assert (response.status_code, response.json()) == (
        202,
        {"enqueued": True, "eventType": "webhook.test"},
    )
    await eventually(lambda: operator.posthog.events)
    (captured,) = operator.posthog.events
    assert (captured["event"], captured["distinct_id"]) == ("webhook.test", f"test_{tested['id']}")
    assert captured["properties"]["endpointId"] == tested["id"]
    assert operator.posthog.keys == ["phc_own"]

    async def recorded() -> bool:
        return await operator.history(tested["id"]) == [("webhook.test", "delivered", 1)]

    await eventually(recorded)
    assert await operator.history(other["id"]) == []
    assert (await operator.request("GET", f"/{tested['id']}")).json()["lastDeliveryAt"]
    assert (await operator.request("GET", f"/{other['id']}")).json()["lastDeliveryAt"] is None


async def test_engagement_that_is_reported_right_after_a_destination_is_created_reaches_it(
    operator: Admin,
) -> None:
    for _ in range(5):
        created = await operator.create()
        await operator.sent.member.engagement.report("email.opened", {"userId": "u_1"})
        await operator.request("DELETE", f"/{created['id']}")
    created = await operator.create()
    await operator.sent.member.engagement.report("email.opened", {"userId": "u_2"})
    await eventually(lambda: operator.posthog.of("u_2"))
    assert await operator.history(created["id"], "?status=failed") == []


async def test_cases_129_and_134_skipped_events_are_in_the_history(operator: Admin) -> None:
    created = await operator.create()
    report = operator.sent.member.engagement.report
    await report("contact.deleted", {"externalId": "u_1"})
    await report("email.opened", {"userId": "u_1"})
    await eventually(lambda: operator.posthog.events)

    async def recorded() -> bool:
        return len(await operator.history(created["id"])) == 2

    await eventually(recorded)
    assert set(await operator.history(created["id"])) == {
        ("contact.deleted", "skipped", 1),
        ("email.opened", "delivered", 1),
    }
    assert await operator.history(created["id"], "?status=skipped") == [
        ("contact.deleted", "skipped", 1)
    ]


async def test_a_paused_destination_discards_events_and_a_resumed_one_sends_them(
    operator: Admin,
) -> None:
    created = await operator.create()
    report = operator.sent.member.engagement.report
    paused = await operator.request("POST", f"/{created['id']}/pause")
    assert paused.json()["disabled"] is True
    active = (await operator.request("GET", "?includeDisabled=false")).json()
    assert (active["webhooks"], active["total"]) == ([], 0)

    async def has(status: str) -> bool:
        # The sender reads destinations once a second.
        await report("email.opened", {"userId": "u_1"})
        return any(delivery[1] == status for delivery in await operator.history(created["id"]))

    await eventually(lambda: has("discarded"))
    resumed = await operator.request("POST", f"/{created['id']}/resume")
    assert resumed.json()["disabled"] is False
    await eventually(lambda: has("delivered"))


async def test_a_change_keeps_the_fields_that_it_does_not_name(operator: Admin) -> None:
    created = await operator.create(description="first")
    path = f"/{created['id']}"
    changed = (
        await operator.request("PATCH", path, eventTypes=["email.sent", "email.sent"])
    ).json()
    assert (changed["eventTypes"], changed["description"]) == (["email.sent"], "first")
    changed = (await operator.request("PATCH", path, config={"syncPersons": False})).json()
    config = {"apiKey": "***", "host": operator.posthog.url, "note": "kept"}
    assert changed["config"] == {**config, "syncPersons": False}
    refused = await operator.request("PATCH", path, config={"apiKey": "***", "host": "http://x.y"})
    assert refused.status_code == 400
    removed: dict[str, Any] = {"apiKey": None, "host": None, "note": None}
    changed = (await operator.request("PATCH", path, description=None, config=removed)).json()
    assert (changed["config"], changed["description"]) == ({"syncPersons": False}, None)


async def test_case_143_a_pause_and_a_resume_are_in_force_once_their_response_is_sent(
    stack: Stack, operator: Admin, servers: Servers
) -> None:
    """Any of three replicas handles the request; only one of them sends."""
    created = await operator.create()
    durable = f"destination-{created['id']}"
    report = operator.sent.member.engagement.report
    another_replica = partial(
        replica, servers, stack.database_url, posthog={"posthog_api_key": "phc_x"}
    )
    async with another_replica(), another_replica():
        for number in range(5):
            assert (await operator.request("POST", f"/{created['id']}/pause")).status_code == 200
            await report("email.opened", {"userId": f"paused_{number}"})
            await until_consumed(operator.sent, StreamName.ENGAGEMENT, durable)
            assert (await operator.request("POST", f"/{created['id']}/resume")).status_code == 200
            await report("email.opened", {"userId": f"resumed_{number}"})
            await until_consumed(operator.sent, StreamName.ENGAGEMENT, durable)
    delivered = [event["distinct_id"] for event in operator.posthog.events]
    assert delivered == [f"resumed_{number}" for number in range(5)]


@pytest.mark.parametrize(
    "changes",
    [
        # One input each that the contract, the service and PostgreSQL refuse; unit tests have more.
        {"eventTypes": []},
        {"config": {"host": "http://169.254.169.254"}},
        {"config": {"note": "a\0b"}},
    ],
)
async def test_an_invalid_destination_is_400_and_changes_nothing(
    operator: Admin, changes: dict[str, Any]
) -> None:
    response = await operator.request("POST", **{**BODY, **changes})
    assert response.status_code == 400, response.text
    assert "phc_own" not in response.text
    assert (await operator.request("GET")).json()["total"] == 0
    created = await operator.create()
    response = await operator.request("PATCH", f"/{created['id']}", **changes)
    assert response.status_code == 400, response.text
    assert (await operator.request("GET", f"/{created['id']}")).json() == created


async def test_every_route_for_an_unknown_destination_is_404(operator: Admin) -> None:
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
        response = await operator.request(method, f"/{uuid4()}{path}")
        assert (response.status_code, response.json()) == (
            404,
            {"error": "Webhook endpoint not found"},
        ), (method, path)
    assert (await operator.request("GET", "/7")).status_code == 404


async def test_a_deleted_destination_is_404_and_its_consumer_is_deleted(operator: Admin) -> None:
    created = await operator.create()
    deleted = await operator.request("DELETE", f"/{created['id']}")
    assert (deleted.status_code, deleted.json()) == (200, {"deleted": True})
    assert (await operator.request("GET", f"/{created['id']}")).status_code == 404

    async def without_consumer() -> bool:
        try:
            await operator.sent.operator.js.consumer_info(
                StreamName.ENGAGEMENT, f"destination-{created['id']}"
            )
        except NotFoundError:
            return True
        return False

    await eventually(without_consumer)


async def test_a_read_key_may_only_read_destinations(operator: Admin) -> None:
    created = await operator.create()
    headers = {"Authorization": f"Bearer {READ_KEY}"}
    path = f"{URL}/{created['id']}"
    http = operator.front.http
    assert (await http.get(URL, headers=headers)).status_code == 200
    assert (await http.get(path, headers=headers)).status_code == 200
    assert (await http.post(f"{path}/pause", headers=headers)).status_code == 403
    assert (await http.delete(path, headers=headers)).status_code == 403
    assert (await http.delete(path)).status_code == 401


async def test_a_service_may_not_list_destinations_on_the_bus(servers: Servers) -> None:
    async with connected(servers, User.APP) as member:
        with pytest.raises(Forbidden):
            await member.request(ANALYTICS_LIST_DESTINATIONS, ListDestinations())

"""Destinations by admin route (contract 6.6), and the one that is made by itself (6.1)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from nats.js.errors import NotFoundError

from hogsend.contract.destinations import (
    ANALYTICS_LIST_DESTINATIONS,
    CreateDestination,
    ListDestinations,
)
from hogsend.contract.engagement import FUNNEL
from hogsend.contract.errors import Forbidden
from hogsend.contract.streams import StreamName
from hogsend.contract.users import User
from services.analytics.delivery.destination_consumers import destination_durable
from services.analytics.destinations import store as stores
from services.analytics.destinations.default_destination import DEFAULT_DESTINATION
from tests.capture_recorder import CaptureRecorder, capture_recorder
from tests.integration.analytics.sending import KEY, Sending, replica, sending
from tests.integration.harness import READ_KEY, Gateway, admin, connected, gateway_service
from tests.servers import Servers
from tests.waiting import eventually, more_than

pytestmark = pytest.mark.usefixtures("fresh_bus")

URL = "/v1/admin/webhooks"
BODY: dict[str, Any] = {
    "url": "posthog://capture",
    "kind": "posthog",
    "eventTypes": ["email.opened", "contact.deleted"],
    "config": {"apiKey": "phc_own", "syncPersons": True, "note": "kept"},
}
ENABLED = {"enable_posthog_destination": True}


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


@asynccontextmanager
async def administration(
    servers: Servers, database_url: str, directory: Path, **settings: Any
) -> AsyncIterator[Admin]:
    async with (
        capture_recorder() as posthog,
        sending(servers, database_url, posthog.url, settings=settings) as sent,
        gateway_service(servers, directory, wait_for_secret=False) as front,
    ):
        yield Admin(front, sent, posthog)


@pytest.fixture
async def operator(servers: Servers, database_url: str, tmp_path: Path) -> AsyncIterator[Admin]:
    async with administration(servers, database_url, tmp_path) as running:
        yield running


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
    assert page == {"webhooks": [made], "total": 1, "limit": 50, "offset": 0}
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
    assert changed["config"] == {"syncPersons": False, "apiKey": "***"}
    changed = await operator.ask("PATCH", path, config={"apiKey": "***", "host": "http://x.y"})
    assert changed.json()["config"] == {"apiKey": "***", "host": "http://x.y"}
    changed = (await operator.ask("PATCH", path, description=None, config={"apiKey": None})).json()
    assert (changed["config"], changed["description"]) == ({"apiKey": None}, None)


@pytest.mark.parametrize(
    "changes",
    [
        {"url": "no url"},
        {"url": ""},
        {"eventTypes": []},
        {"eventTypes": ["webhook.test"]},
        {"eventTypes": ["no.such.type"]},
        {"kind": "webhook"},
        {"description": "x" * 501},
        {"config": {"host": "ftp://x.y"}},
        {"config": {"host": "http://10.0.0.7:8000"}},
        {"config": {"host": "http://169.254.169.254"}},
        {"config": {"host": 5}},
        {"config": {"eventNames": {"email.sent": 5}}},
        {"config": {"note": "a\0b"}},
        {"disabled": "yes"},
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


async def test_without_analytics_it_is_a_typed_503(servers: Servers, tmp_path: Path) -> None:
    async with gateway_service(servers, tmp_path, wait_for_secret=False) as front:
        answer = await front.http.get(URL, headers=admin())
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert "analytics" in answer.json()["error"]


async def defaults(sent: Sending) -> list[Any]:
    return [one for one in await sent.store.all() if one.is_default]


async def test_case_126_several_replicas_make_one_destination(
    servers: Servers, database_url: str
) -> None:
    ours = {"posthog_api_key": KEY, "posthog_host": "http://127.0.0.1:9"}
    async with (
        sending(servers, database_url, "http://127.0.0.1:9", settings=ENABLED) as sent,
        replica(servers, database_url, posthog=ours, settings=ENABLED),
    ):
        await eventually(lambda: defaults(sent))
        await asyncio.gather(
            *(sent.store.ensure_default(DEFAULT_DESTINATION, lambda one: one) for _ in range(10))
        )
        (one,) = await sent.store.all()
        assert one.event_types == list(FUNNEL)
        assert one.given == {
            "eventNames": {"email.clicked": "email.link_clicked"},
            "syncPersons": True,
        }
        assert (one.url, one.kind, one.disabled) == ("posthog://capture", "posthog", False)


@pytest.mark.parametrize("kept", [False, "true", None])
async def test_cases_127_and_128_what_is_missing_is_added_and_what_was_chosen_stays(
    servers: Servers, database_url: str, kept: Any
) -> None:
    async with sending(servers, database_url, "http://127.0.0.1:9") as sent:
        config = {} if kept is None else {"syncPersons": kept}
        stored = CreateDestination(
            url="posthog://capture", event_types=["email.replied", "email.sent"], config=config
        )
        await sent.store.create(stored, is_default=True)
    async with sending(servers, database_url, "http://127.0.0.1:9", settings=ENABLED) as sent:

        async def completed() -> bool:
            return len((await sent.store.all())[0].event_types) > 2

        await eventually(completed)
        (one,) = await sent.store.all()
    missing = [type for type in FUNNEL if type != "email.sent"]
    assert one.event_types == ["email.replied", "email.sent", *missing]
    assert one.given == {"syncPersons": True if kept is None else kept}


async def test_whatever_was_made_by_hand_counts_as_the_destination(
    servers: Servers, database_url: str
) -> None:
    async with sending(servers, database_url, "http://127.0.0.1:9") as sent:
        stored = CreateDestination(url="posthog://capture", event_types=["email.sent"])
        await sent.store.create(stored)
        assert await sent.store.ensure_default(DEFAULT_DESTINATION, lambda one: one) == "unchanged"
        assert await defaults(sent) == []


async def test_the_default_destination_follows_the_instances_key_and_host(
    servers: Servers, database_url: str
) -> None:
    async with capture_recorder() as one, capture_recorder() as other:
        for posthog, key in ((one, "phc_first"), (other, "phc_rotated")):
            chosen = {"posthog_api_key": key}
            async with sending(
                servers, database_url, posthog.url, posthog=chosen, settings=ENABLED
            ) as sent:
                await eventually(partial(defaults, sent))
                (destination,) = await sent.store.all()
                await _has_consumer(sent, destination_durable(destination.id))
                await sent.member.engagement.report("email.opened", {"userId": "u_1"})
                await eventually(more_than(0, posthog.batches))
                assert set(posthog.keys) == {key}


async def test_the_history_is_bounded(servers: Servers, database_url: str) -> None:
    async with sending(servers, database_url, "http://127.0.0.1:9") as sent:
        made = await sent.store.create(
            CreateDestination(url="posthog://capture", event_types=["email.sent"])
        )
        for first in range(0, 1500, 500):
            await sent.store.record(
                made.id,
                [
                    stores.Outcome(
                        event_id=f"m_{first + number}\0",
                        event_type="email.sent",
                        status="delivered",
                        attempts=1,
                    )
                    for number in range(500)
                ],
            )
        connection = await asyncpg.connect(database_url)
        try:
            kept = await connection.fetch("SELECT event_id FROM analytics.deliveries")
        finally:
            await connection.close()
    assert len(kept) == stores.KEPT_DELIVERIES
    assert {row["event_id"] for row in kept} == {f"m_{number}" for number in range(500, 1500)}


async def _has_consumer(sent: Sending, durable: str) -> None:
    async def there() -> bool:
        found = await sent.operator.js.consumers_info(StreamName.ENGAGEMENT)
        return durable in {info.name for info in found}

    await eventually(there)


async def test_members_may_not_manage_destinations(servers: Servers) -> None:
    async with connected(servers, User.APP) as member:
        with pytest.raises(Forbidden):
            await member.request(ANALYTICS_LIST_DESTINATIONS, ListDestinations())

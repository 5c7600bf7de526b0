"""Destinations as operators manage them (contract 6.6)."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

import msgspec
import pytest

from hogsend.contract.destinations import (
    ChangeDestination,
    CreateDestination,
    DestinationRef,
    ListDeliveries,
    ListDestinations,
)
from hogsend.contract.engagement import Engagement
from hogsend.contract.errors import InvalidRequest, NotFound, Unavailable
from hogsend.contract.headers import DESTINATION
from hogsend.service.ssrf import EgressPolicy
from services.analytics.destinations.service import DestinationService
from services.analytics.destinations.store import Outcome
from tests.unit.analytics.fake_destinations import FakeStore
from tests.unit.analytics.fakes import FakeLink

CONFIG = {"apiKey": "phc_own", "syncPersons": True, "note": "kept"}


class FakeConsumers:
    """The consumers of destinations, in memory."""

    def __init__(self) -> None:
        self.kept_for: set[UUID] = set()
        self.down = False

    async def create(self, destination: UUID) -> None:
        self._check()
        self.kept_for.add(destination)

    async def delete(self, destination: UUID) -> None:
        self._check()
        self.kept_for.discard(destination)

    def _check(self) -> None:
        if self.down:
            raise Unavailable("NATS is not connected")


class Managed:
    """The service with fakes of all its dependencies."""

    def __init__(self) -> None:
        self.link = FakeLink()
        self.consumers = FakeConsumers()
        self.store = FakeStore()
        self.service = DestinationService(
            self.link,
            self.consumers,
            self.store,
            EgressPolicy.of(("allowed.internal",)),
            "https://us.i.posthog.com",
            max_destinations=3,
        )

    async def create(self, **changes: Any) -> str:
        """Create a destination, and return its id."""
        new: dict[str, Any] = {
            "url": "posthog://capture",
            "event_types": ["email.opened"],
            "config": CONFIG,
            **changes,
        }
        return (await self.service.create(CreateDestination(**new))).id

    async def change(self, id: str, **changes: Any) -> Any:
        """Change a destination, and return it as the API shows it."""
        return await self.service.change(ChangeDestination(id=id, **changes))


@pytest.fixture
def managed() -> Managed:
    return Managed()


async def test_case_148_a_key_is_shown_as_stars(managed: Managed) -> None:
    id = await managed.create()
    shown = await managed.service.get(DestinationRef(id))
    assert shown.config == {"apiKey": "***", "syncPersons": True, "note": "kept"}
    assert shown.secret_prefix is None
    assert b"phc_own" not in msgspec.json.encode(shown)
    page = await managed.service.page(ListDestinations())
    assert (page.webhooks, page.total) == ([shown], 1)
    assert managed.store.rows[UUID(id)].config.api_key == "phc_own"


async def test_a_destination_receives_engagement_from_the_moment_of_its_creation(
    managed: Managed,
) -> None:
    id = await managed.create()
    assert managed.consumers.kept_for == {UUID(id)}


async def test_a_destination_without_a_consumer_is_not_created(managed: Managed) -> None:
    managed.consumers.down = True
    with pytest.raises(Unavailable):
        await managed.create()
    assert managed.store.rows == {}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"url": "no url"}, "is not a URL"),
        ({"url": ""}, "is not a URL"),
        ({"url": "https://me:word@x.y"}, "user or password"),
        ({"event_types": ["webhook.test"]}, "webhook.test"),
        ({"event_types": ["no.such.type"]}, "no.such.type"),
        ({"config": {"eventNames": {"email.sent": 5}}}, "config"),
        *[
            ({"config": {"host": host, "apiKey": "phc_own"}}, problem)
            for host, problem in (
                (5, "config"),
                ("ftp://x.y", "http or https"),
                ("eu.i.posthog.com", "http or https"),
                ("http://", "http or https"),
                ("http://10.0.0.7:8000", "OUTBOUND_ALLOW"),
                ("http://169.254.169.254", "OUTBOUND_ALLOW"),
                ("http://localhost:8000", "OUTBOUND_ALLOW"),
                ("https://me:word@eu.i.posthog.com", "must not carry"),
                ("https://eu.i.posthog.com/?key=word", "must not carry"),
                ("https://eu.i.posthog.com/#word", "must not carry"),
            )
        ],
    ],
)
async def test_an_invalid_destination_is_refused_and_changes_nothing(
    managed: Managed, changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(InvalidRequest, match=problem) as refused:
        await managed.create(**changes)
    assert "phc_own" not in str(refused.value)
    assert "word" not in str(refused.value).replace("password", "")
    assert managed.store.rows == {}
    id = await managed.create()
    before = managed.store.rows[UUID(id)]
    with pytest.raises(InvalidRequest, match=problem):
        await managed.change(id, **changes)
    assert managed.store.rows[UUID(id)] == before


async def test_a_host_that_is_not_public_may_be_allowed(managed: Managed) -> None:
    config = {"host": "http://allowed.internal:8000", "apiKey": "phc_own"}
    id = await managed.create(config=config)
    assert managed.store.rows[UUID(id)].config.host == "http://allowed.internal:8000"


async def test_a_change_keeps_the_other_fields(managed: Managed) -> None:
    id = await managed.create(description="first")
    changed = await managed.change(id, event_types=["email.sent", "email.sent"])
    assert (changed.event_types, changed.description) == (["email.sent"], "first")
    changed = await managed.change(id, description=None, url="https://x.y", disabled=True)
    assert (changed.description, changed.url, changed.disabled) == (None, "https://x.y", True)


async def test_a_config_is_merged_and_null_removes(managed: Managed) -> None:
    id = await managed.create(config={**CONFIG, "eventNames": {"email.sent": "a", "x": "b"}})
    changed = await managed.change(id, config={"syncPersons": False})
    assert changed.config["syncPersons"] is False
    assert (changed.config["apiKey"], changed.config["note"]) == ("***", "kept")
    changed = await managed.change(
        id, config={"apiKey": "***", "note": None, "eventNames": {"x": None, "y": "c"}}
    )
    assert changed.config == {
        "apiKey": "***",
        "syncPersons": False,
        "eventNames": {"email.sent": "a", "y": "c"},
    }
    assert managed.store.rows[UUID(id)].config.api_key == "phc_own"
    changed = await managed.change(id, config={"apiKey": None})
    assert "apiKey" not in changed.config


HOST = {"host": "https://one.example", "apiKey": "phc_one"}


@pytest.mark.parametrize(
    ("stored", "patch"),
    [
        (HOST, {"host": "https://two.example"}),
        (HOST, {"host": "https://two.example", "apiKey": "***"}),
        (HOST, {"host": "http://one.example"}),
        (HOST, {"host": "https://one.example:8443"}),
        (HOST, {"host": "https://one.example.two.example"}),
        (HOST, {"host": None}),
        (CONFIG, {"host": "https://two.example"}),
        # The instance's key must not be sent to another host either.
        ({}, {"host": "https://two.example"}),
        (HOST, {"apiKey": None}),
    ],
)
async def test_a_key_is_never_sent_to_another_host(
    managed: Managed, stored: dict[str, Any], patch: dict[str, Any]
) -> None:
    id = await managed.create(config=stored)
    before = managed.store.rows[UUID(id)]
    with pytest.raises(InvalidRequest, match="apiKey") as refused:
        await managed.change(id, config=patch)
    assert "phc_o" not in str(refused.value)
    assert managed.store.rows[UUID(id)] == before


@pytest.mark.parametrize(
    ("stored", "patch"),
    [
        (HOST, {"host": "https://two.example", "apiKey": "phc_two"}),
        (HOST, {"host": "https://one.example/"}),
        (HOST, {"host": None, "apiKey": None}),
        (CONFIG, {"host": "https://us.i.posthog.com"}),
        ({}, {"host": "https://us.i.posthog.com/"}),
    ],
)
async def test_a_host_may_change_with_its_key_or_stay_the_same(
    managed: Managed, stored: dict[str, Any], patch: dict[str, Any]
) -> None:
    id = await managed.create(config=stored)
    changed = await managed.change(id, config=patch)
    assert changed.config.get("host") == patch["host"]


async def test_a_new_destination_at_another_host_needs_its_own_key(managed: Managed) -> None:
    for config in ({"host": "https://two.example"}, {"host": "https://x.y", "apiKey": "***"}):
        with pytest.raises(InvalidRequest, match="apiKey"):
            await managed.create(config=config)


async def test_a_deleted_destination_leaves_no_consumer(managed: Managed) -> None:
    id = await managed.create()
    await managed.service.delete(DestinationRef(id))
    assert (managed.store.rows, managed.consumers.kept_for) == ({}, set())


async def test_a_destination_is_deleted_even_if_its_consumer_cannot_be_deleted(
    managed: Managed,
) -> None:
    id = await managed.create()
    managed.consumers.down = True
    await managed.service.delete(DestinationRef(id))
    assert managed.store.rows == {}


async def test_case_147_a_test_event_is_addressed_to_one_destination(managed: Managed) -> None:
    id = await managed.create()
    assert (await managed.service.test(DestinationRef(id))).enqueued
    (published,) = managed.link.published
    assert published.subject == "hogsend.engagement.webhook.test"
    assert published.headers[DESTINATION] == id
    event = msgspec.json.decode(published.body, type=Engagement)
    assert (event.type, event.data["endpointId"]) == ("webhook.test", id)
    assert (event.data["userId"], event.data["to"]) == (f"test_{id}", "test@example.com")


async def test_a_test_event_waits_for_its_destination_even_if_the_leader_has_no_consumer_yet(
    managed: Managed,
) -> None:
    id = await managed.create()
    managed.consumers.kept_for.clear()
    await managed.service.test(DestinationRef(id))
    assert managed.consumers.kept_for == {UUID(id)}
    managed.consumers.down = True
    with pytest.raises(Unavailable):
        await managed.service.test(DestinationRef(id))
    assert len(managed.link.published) == 1


async def test_a_page_of_history_contains_deliveries_of_one_destination_only(
    managed: Managed,
) -> None:
    id = await managed.create()
    sent = Outcome(event_id="0", event_type="email.opened", status="delivered", attempts=1)
    skipped = Outcome(event_id="1", event_type="contact.deleted", status="skipped", attempts=1)
    await managed.store.record(UUID(id), [sent, skipped])
    page = await managed.service.deliveries(ListDeliveries(id=id, status="skipped"))
    assert [delivery.event_id for delivery in page.deliveries] == ["1"]


@pytest.mark.parametrize("id", ["6d115535-9511-4c99-a8a7-ede0764c2554", "7", ""])
async def test_a_destination_that_does_not_exist_is_not_found(managed: Managed, id: str) -> None:
    reference = DestinationRef(id)
    for call in (managed.service.get, managed.service.delete, managed.service.test):
        with pytest.raises(NotFound, match="Webhook endpoint not found"):
            await call(reference)
    with pytest.raises(NotFound):
        await managed.change(id, disabled=True)
    with pytest.raises(NotFound):
        await managed.service.deliveries(ListDeliveries(id=id))


NUL_IN = [
    ({"url": "posthog://a\0b"}, "url"),
    ({"description": "a\0b"}, "description"),
    ({"config": {"note": "a\0b"}}, "config.note"),
    ({"config": {"a\0b": 1}}, "config"),
    ({"config": {"eventNames": {"email.opened": "a\0"}}}, "config.eventNames.email.opened"),
    ({"config": {"list": [1, {"deep": "\0"}]}}, "config.list[1].deep"),
    ({"config": {"apiKey": "phc_\0"}}, "config.apiKey"),
]


@pytest.mark.parametrize(("fields", "name"), NUL_IN)
async def test_a_nul_is_refused_with_the_name_of_its_field(
    managed: Managed, fields: dict[str, Any], name: str
) -> None:
    created = await managed.service.create(
        CreateDestination(url="posthog://capture", event_types=["email.opened"])
    )
    (before,) = await managed.store.all()
    refusal = f"^{re.escape(name)} has a NUL character"
    new: dict[str, Any] = {"url": "posthog://capture", "event_types": ["email.opened"], **fields}
    with pytest.raises(InvalidRequest, match=refusal) as refused:
        await managed.service.create(CreateDestination(**new))
    assert "\0" not in str(refused.value)
    with pytest.raises(InvalidRequest, match=refusal):
        await managed.service.change(ChangeDestination(id=created.id, **fields))
    assert await managed.store.all() == [before]


async def test_more_destinations_than_are_allowed_are_refused_until_one_is_deleted() -> None:
    managed = Managed()
    created = [await managed.create() for _ in range(3)]
    with pytest.raises(InvalidRequest, match="there are 3 destinations"):
        await managed.create()
    assert len(managed.consumers.kept_for) == 3
    await managed.service.delete(DestinationRef(id=created[0]))
    await managed.create()

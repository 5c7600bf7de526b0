"""The routers of the services, the contract and the AsyncAPI document agree."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from docs.generators.asyncapi import SERVICES, document, router_of, subscribed_subjects
from hogsend.contract.consumers import CONSUMER_REQUESTS, CONSUMER_REQUESTS_USER
from hogsend.contract.engagement import ENGAGEMENT_REPORTED, read_engagement
from hogsend.contract.events import EVENT_ANNOUNCED
from hogsend.contract.persons import EVENT_CAPTURED, PERSON_ALIASED, PERSON_SET
from hogsend.contract.registry import Channel, channels, endpoints
from hogsend.contract.subjects import intersection
from hogsend.contract.users import User
from hogsend.service.credential_watcher import CredentialWatcher
from hogsend.service.settings.shared import PostHogSettings
from services.analytics.delivery.sources.persons import PersonsSource
from services.analytics.project_key import ProjectKey
from services.analytics.stored_project import StoredProject
from tests.unit.analytics.delivery_fakes import FakeMessage
from tests.unit.analytics.fakes import FakeLink


@pytest.fixture(scope="module")
def asyncapi() -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(document())
    return parsed


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_handles_exactly_its_own_endpoints(service: User) -> None:
    handled = sorted(endpoint.subject for endpoint in router_of(service).endpoints)
    assert handled == [endpoint.subject for endpoint in endpoints() if endpoint.service == service]


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_declares_every_channel_that_it_may_publish(service: User) -> None:
    declared = sorted(channel.subject for channel in router_of(service).published)
    assert declared == [c.subject for c in channels() if service in c.publishers]


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_subscribes_to_exactly_the_channels_it_may_read(service: User) -> None:
    allowed = {channel.subject for channel in channels() if service in channel.subscribers}
    if service is CONSUMER_REQUESTS_USER:
        # JetStream's own requests, which its API describes.
        allowed.add(f"{CONSUMER_REQUESTS}.>")
    if service is User.GATEWAY:
        # Subscribed only while the console shows live events: services/gateway/console/live.py.
        allowed.discard(EVENT_ANNOUNCED.subject)
    subscribed = subscribed_subjects(router_of(service))
    unused = {
        pattern for pattern in allowed if not any(intersection(pattern, s) for s in subscribed)
    }
    not_allowed = {
        pattern for pattern in subscribed if not any(intersection(pattern, s) for s in allowed)
    }
    assert (unused, not_allowed) == (set(), set())


def test_the_document_has_one_channel_for_each_subject_of_the_contract(
    asyncapi: dict[str, Any],
) -> None:
    addresses = [c["address"] for c in asyncapi["channels"].values() if c["address"]]
    declared = [c.address for c in channels()] + [e.subject for e in endpoints()]
    assert sorted(addresses) == sorted(declared)


def test_the_document_has_an_operation_with_a_reply_for_every_endpoint(
    asyncapi: dict[str, Any],
) -> None:
    replies = {
        operation["channel"]["$ref"] for operation in asyncapi["operations"].values()
        if "reply" in operation
    }  # fmt: skip
    assert len(replies) == len(endpoints())


@pytest.mark.parametrize(
    ("channel", "content", "required"),
    [
        (ENGAGEMENT_REPORTED, {"data": {"to": "a@b.com"}}, ["data"]),
        (EVENT_CAPTURED, {"event": "e", "distinctId": "u"}, ["distinctId", "event"]),
        (PERSON_SET, {"distinctId": "u", "set": {"a": 1}}, ["distinctId"]),
        (PERSON_ALIASED, {"distinctId": "u", "alias": "a"}, ["alias", "distinctId"]),
    ],
)
def test_the_schema_of_a_message_from_external_services_is_what_its_reader_accepts(
    asyncapi: dict[str, Any], channel: Channel, content: dict[str, Any], required: list[str]
) -> None:
    name = next(id for id, c in asyncapi["channels"].items() if c["address"] == channel.address)
    (message,) = asyncapi["channels"][name]["messages"]
    schema = asyncapi["components"]["schemas"][message]
    assert sorted(schema["required"]) == required
    body, at = json.dumps(content).encode(), datetime(2026, 11, 27, tzinfo=UTC)
    subject = channel.subject.replace(">", "email.opened")
    if channel is ENGAGEMENT_REPORTED:
        read = read_engagement(subject, {}, body, 7, at)
        assert msgspec.structs.asdict(read).keys() == schema["properties"].keys()
    else:
        key = ProjectKey(PostHogSettings(), StoredProject(FakeLink(), CredentialWatcher("posthog")))
        assert PersonsSource(key).read(FakeMessage(7, subject, body)) is not None


def test_a_field_is_described_by_its_docstring(asyncapi: dict[str, Any]) -> None:
    schemas = asyncapi["components"]["schemas"]
    inherited = schemas["Event"]["properties"]["userId"]
    assert inherited["description"].startswith("PostHog's distinct id, unchanged.")
    optional = schemas["SetPerson"]["properties"]["timestamp"]
    assert optional["description"] == "When it happened; null means when the message was queued."


def test_a_description_names_fields_as_json_does(asyncapi: dict[str, Any]) -> None:
    described = asyncapi["components"]["schemas"]["RecordEvent"]["description"]
    assert "`userId` or `email` is required" in described

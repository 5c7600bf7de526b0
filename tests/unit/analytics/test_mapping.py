"""Engagement, person writes and mirrored events as PostHog captures them (contract 12.8)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest

from hogsend.contract.engagement import Engagement
from hogsend.contract.events import Event
from hogsend.contract.persons import Alias, Capture, SetPerson
from hogsend.posthog.capture import Captured
from services.analytics.delivery import mapping
from services.analytics.delivery.mapping import NoIdentity
from services.analytics.destinations.model import DestinationConfig

AT = datetime(2026, 6, 13, 4, 0, 0, 123000, tzinfo=UTC)
LATER = datetime(2026, 6, 13, 5, 0, tzinfo=UTC)
ID = "msg_0198c9a2-5c4c-7c56-9e2f-2f9f8f1d2b3c"
UUID_GIVEN = UUID("0198c9a2-5c4c-7c56-9e2f-2f9f8f1d2b3c")
OURS = {"$lib": "hogsend", "$geoip_disable": True}


def config(**changes: Any) -> DestinationConfig:
    return msgspec.convert({"syncPersons": True, **changes}, DestinationConfig)


def happened(type: str, **data: Any) -> Engagement:
    return Engagement(id=ID, type=type, timestamp=AT, data=data)


def mapped(type: str, settings: DestinationConfig | None = None, **data: Any) -> Captured | None:
    return mapping.engagement(happened(type, **data), settings or config())


def captured(type: str, settings: DestinationConfig | None = None, **data: Any) -> Captured:
    event = mapped(type, settings, **data)
    assert event is not None
    return event


@pytest.mark.parametrize("sync", [{}, {"syncPersons": False}, {"syncPersons": None}])
def test_case_129_contacts_are_skipped_without_sync_persons(sync: dict[str, Any]) -> None:
    settings = msgspec.convert(sync, DestinationConfig)
    assert mapped("contact.updated", settings, id="c_1", properties={"plan": "pro"}) is None


def test_case_130_only_contact_properties_travel_never_the_email() -> None:
    event = captured(
        "contact.updated", id="c_1", externalId=None, email="a@b.com", properties={"plan": "pro"}
    )
    assert event.event == "$set"
    assert event.distinct_id == "c_1"
    assert event.properties == {"$set": {"plan": "pro"}, **OURS}
    assert b"a@b.com" not in msgspec.json.encode(event)


def test_case_131_an_external_id_is_the_distinct_id_and_an_empty_bag_is_skipped() -> None:
    assert (
        captured("contact.created", id="c_1", externalId="u_1", properties={"a": 1}).distinct_id
        == "u_1"
    )
    assert mapped("contact.created", id="c_1", externalId="u_1", properties={}) is None
    assert mapped("contact.created", id="c_1", externalId="u_1") is None


@pytest.mark.parametrize("almost", ["true", 1, "yes"])
def test_case_132_only_a_literal_true_syncs_persons(almost: Any) -> None:
    settings = config(syncPersons=almost)
    assert mapped("contact.updated", settings, id="c_1", properties={"plan": "pro"}) is None


def test_case_133_unsubscribing_from_everything_sets_a_property() -> None:
    event = captured("contact.unsubscribed", externalId="u_1", scope="all", email="a@b.com")
    assert (event.event, event.distinct_id) == ("$set", "u_1")
    assert event.properties == {"$set": {"hogsend_unsubscribed": True}, **OURS}
    own = config(unsubscribedPropertyKey="no_mail")
    assert captured("contact.unsubscribed", own, externalId="u_1", scope="all").properties[
        "$set"
    ] == {"no_mail": True}
    assert mapped("contact.unsubscribed", externalId="u_1", scope="category") is None
    assert mapped("contact.unsubscribed", externalId="", scope="all") is None
    assert mapped("contact.unsubscribed", scope="all") is None


@pytest.mark.parametrize("type", ["contact.deleted", "contact.subscribed", "contact.refined"])
def test_case_134_other_contact_events_are_skipped(type: str) -> None:
    assert mapped(type, id="c_1", externalId="u_1", properties={"a": 1}) is None


def test_case_135_without_a_user_id_the_address_is_the_distinct_id() -> None:
    event = captured("email.opened", userId=None, to="a@b.com", emailSendId="es_1")
    assert event.distinct_id == "a@b.com"
    assert event.timestamp == AT
    assert event.event == "email.opened"
    assert event.properties == {
        "userId": None,
        "to": "a@b.com",
        "emailSendId": "es_1",
        **OURS,
    }


@pytest.mark.parametrize("field", ["to", "userEmail"])
@pytest.mark.parametrize(
    ("written", "person"),
    [
        ("Ada@Example.COM ", "ada@example.com"),
        ("Ada <ada@example.com>", "ada@example.com"),
        # A text that is no address is not changed.
        ("+49 30 901820", "+49 30 901820"),
    ],
)
def test_every_spelling_of_an_address_is_the_same_person(
    field: str, written: str, person: str
) -> None:
    data: dict[str, Any] = {field: written}
    event = captured("email.opened", **data)
    assert event.distinct_id == person
    assert event.properties[field] == written
    assert captured("email.opened", userId="Ada@Example.COM").distinct_id == "Ada@Example.COM"


def test_a_placeholder_id_is_replaced_by_the_address_or_another_id() -> None:
    """Otherwise all users without an id would share one person in PostHog."""
    opened = captured("email.opened", userId="null", to="a@b.com")
    assert opened.distinct_id == "a@b.com"
    assert captured("email.opened", userId="null", anonymousId="anon-1").distinct_id == "anon-1"
    changed = captured("contact.updated", externalId="undefined", id="c_1", properties={"a": 1})
    assert changed.distinct_id == "c_1"
    without_ids: dict[str, Any] = {"externalId": "undefined", "userId": "undefined", "scope": "all"}
    assert mapped("contact.unsubscribed", **without_ids) is None
    assert mapped("contact.control_group", **without_ids) is None
    assert mapped("journey.heldout", **without_ids, journeyId="j") is None
    entered = happened("bucket.entered", **without_ids, bucketId="b", syncToPostHog=True)
    assert mapping.bucket(entered) is None
    with pytest.raises(mapping.NoIdentity, match="names a person"):
        mapped("contact.updated", externalId="undefined", properties={"a": 1})
    # There is nothing better, and nothing is set.
    assert captured("email.opened", userId="null").distinct_id == "null"


def test_case_136_clicks_are_renamed_when_the_destination_says_so() -> None:
    renaming = config(eventNames={"email.clicked": "email.link_clicked"})
    assert captured("email.clicked", renaming, userId="u_1").event == "email.link_clicked"
    assert captured("email.clicked", userId="u_1").event == "email.clicked"
    assert captured("email.opened", renaming, userId="u_1").event == "email.opened"


def test_case_137_a_semantic_link_is_captured_under_its_own_name() -> None:
    event = captured(
        "email.action",
        config(eventNames={"email.action": "never", "nps.submitted": "never"}),
        event="nps.submitted",
        properties={"score": 9},
        emailSendId="es_1",
        templateKey="nps",
        linkId="l_1",
        userId="u_1",
        to="a@b.com",
    )
    assert event.event == "nps.submitted"
    assert event.distinct_id == "u_1"
    assert event.properties == {
        "score": 9,
        "emailSendId": "es_1",
        "templateKey": "nps",
        "linkId": "l_1",
        **OURS,
    }
    assert captured("email.action", event="x", properties=None, userId="u_1").properties == OURS


@pytest.mark.parametrize("name", [None, "", 7])
def test_a_semantic_link_without_the_name_of_its_event_is_refused(name: object) -> None:
    with pytest.raises(NoIdentity, match="without the event"):
        mapped("email.action", event=name, userId="u_1")


def test_case_138_the_digest_is_skipped() -> None:
    assert mapped("impact.digest", userId="u_1") is None


def test_control_group_and_holdout_are_person_properties() -> None:
    assert captured("contact.control_group", userId="u_1").properties["$set"] == {
        "hogsend_control_group": True
    }
    assert mapped("contact.control_group") is None
    held_out = captured("journey.heldout", userId="u_1", journeyId="j_1")
    assert held_out.properties["$set"] == {"hogsend_holdout_j_1": True}
    assert mapped("journey.heldout", config(syncPersons=False), userId="u_1", journeyId="j") is None


def test_the_library_name_replaces_a_property_of_that_name() -> None:
    event = captured("email.opened", None, userId="u_1", **{"$lib": "web"})
    assert event.properties["$lib"] == "hogsend"


def test_an_event_without_a_person_is_refused() -> None:
    with pytest.raises(NoIdentity):
        mapped("email.opened", userId="", to=None)
    with pytest.raises(NoIdentity):
        mapped("contact.updated", properties={"a": 1})


def test_repeats_carry_the_same_uuid() -> None:
    assert captured("email.opened", userId="u").uuid == UUID(ID.removeprefix("msg_"))
    assert mapping.event_uuid("order-17") == mapping.event_uuid("order-17")
    assert mapping.event_uuid("order-17") != mapping.event_uuid("order-18")


def test_buckets_with_sync_to_posthog_are_mirrored() -> None:
    entered = mapping.bucket(
        happened("bucket.entered", bucketId="vip", userId="u_1", syncToPostHog=True)
    )
    assert entered is not None
    assert (entered.event, entered.distinct_id) == ("$set", "u_1")
    assert entered.properties == {"$set": {"hogsend_bucket_vip": True}, **OURS}
    left = mapping.bucket(happened("bucket.left", bucketId="vip", userId="u_1", syncToPostHog=True))
    assert left is not None
    assert left.properties == {"$unset": ["hogsend_bucket_vip"], **OURS}
    assert mapping.bucket(happened("bucket.left", bucketId="vip", userId="u_1")) is None


def test_case_101_a_person_write_is_one_set_event_with_its_operations() -> None:
    request = SetPerson(distinct_id="u", set={"a": 1}, set_once={"b": 2}, unset=["c"])
    event = mapping.set_person(request, UUID_GIVEN, LATER)
    assert event is not None
    assert (event.event, event.uuid, event.timestamp) == ("$set", UUID_GIVEN, LATER)
    assert event.properties == {"$set": {"a": 1}, "$set_once": {"b": 2}, "$unset": ["c"], **OURS}
    assert mapping.set_person(SetPerson(distinct_id="u"), UUID_GIVEN, LATER) is None
    only = mapping.set_person(SetPerson(distinct_id="u", unset=["c"]), UUID_GIVEN, LATER)
    assert only is not None
    assert only.properties == {"$unset": ["c"], **OURS}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        *(("u", "u"), ("", "a"), ("u", ""), (" ", "a"), ("u", "\ufeff")),
        *(("u", "undefined"), ("NULL", "a"), ("u", "'null'"), ("u", "[object Object]")),
        # Ids that PostHog itself would merge.
        *(("u", "[object Promise]"), ("<nil>", "a"), ("u", "{{ anonymous_id }}"), ("u", "user_id")),
    ],
)
def test_case_102_an_alias_of_a_placeholder_id_is_not_sent(one: str, other: str) -> None:
    assert mapping.alias(Alias(distinct_id=one, alias=other), UUID_GIVEN, AT) is None


@pytest.mark.parametrize(
    "id", ["null", "undefined", "0", "[object Object]", "{{ user.id }}", "\ufeff"]
)
def test_properties_of_a_placeholder_id_are_not_written(id: str) -> None:
    assert mapping.set_person(SetPerson(distinct_id=id, set={"a": 1}), UUID_GIVEN, AT) is None


def test_case_102_the_surviving_key_is_the_distinct_id() -> None:
    event = mapping.alias(Alias(distinct_id="u", alias="anon"), UUID_GIVEN, AT)
    assert event is not None
    assert (event.event, event.distinct_id) == ("$create_alias", "u")
    assert event.properties == {"alias": "anon", **OURS}


def test_groups_travel_as_a_property() -> None:
    request = Capture(event="e", distinct_id="u", properties={"a": 1}, groups={"company": "c"})
    assert mapping.capture(request, UUID_GIVEN, AT).properties == {
        "a": 1,
        "$groups": {"company": "c"},
        **OURS,
    }


def test_case_149_a_mirrored_event_keeps_its_value_and_currency() -> None:
    event = Event(
        id="e_1",
        event="feature.used",
        user_id="u",
        contact_key="u",
        source="hogsend",
        occurred_at=AT,
        received_at=LATER,
        properties={"value": 149.99, "currency": "gbp", "plan": "pro"},
    )
    mirror = mapping.mirrored(event)
    assert (mirror.event, mirror.distinct_id, mirror.timestamp) == ("feature.used", "u", AT)
    assert mirror.properties == {"value": 149.99, "currency": "GBP", "plan": "pro", **OURS}

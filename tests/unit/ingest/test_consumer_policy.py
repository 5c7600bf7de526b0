"""Which consumers external users may create and delete, and what is passed on to JetStream."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hogsend.contract import subjects
from hogsend.contract.consumers import (
    EXTERNAL_STREAMS,
    EXTERNAL_USERS,
    MIRROR,
    consumer_request_mappings,
    unmapped,
)
from hogsend.contract.permissions import inbox_prefix
from hogsend.contract.registry import channels, endpoints
from hogsend.contract.streams import StreamName
from hogsend.contract.users import User
from services.ingest.consumer_api.messages import Creation, Deletion
from services.ingest.consumer_api.policy import Refused, read

INBOX = f"{inbox_prefix(User.SUBSCRIBER)}.abc.1"
CREATE = "CREATE.EVENTS.mine"


def body(**config: Any) -> bytes:
    return msgspec.json.encode({"stream_name": "EVENTS", "config": config})


def passed_on_for(subject: str = CREATE, /, **config: Any) -> dict[str, Any]:
    """Return the request that is passed on to JetStream."""
    creation = read(subject, body(**config))
    assert isinstance(creation, Creation)
    passed_on: dict[str, Any] = msgspec.json.decode(creation.body)
    return {"subject": creation.subject, **passed_on}


@pytest.mark.parametrize("action", [None, "", "create"])
def test_a_consumer_request_is_passed_on_with_the_action_create(action: str | None) -> None:
    config = {"durable_name": "mine", "filter_subjects": ["hogsend.events.x", "hogsend.events.y"]}
    request = {"stream_name": "EVENTS", "config": config, "action": action}
    if action is None:
        del request["action"]
    creation = read("DURABLE.CREATE.EVENTS.mine", msgspec.json.encode(request))
    assert isinstance(creation, Creation)
    assert msgspec.json.decode(creation.body) == {
        "stream_name": "EVENTS",
        "config": config | {"name": "mine"},
        "action": "create",
    }


def test_a_durable_that_was_created_without_a_name_is_requested_without_a_name() -> None:
    filtered = "hogsend.events.x"
    creation = read(f"{CREATE}.{filtered}", body(durable_name="mine", filter_subject=filtered))
    assert isinstance(creation, Creation)
    assert creation.subject == f"{CREATE}.{filtered}"
    unnamed = creation.without_name().with_filters_of(filtered, None)
    assert unnamed.subject == "DURABLE.CREATE.EVENTS.mine"
    config = msgspec.json.decode(unnamed.body)["config"]
    assert config == {"durable_name": "mine", "filter_subject": filtered}


EVERYTHING = ["hogsend.events.*", "hogsend.contacts.*.erased"]


@pytest.mark.parametrize(
    ("request_filters", "sent_filters"),
    [
        ({}, {"filter_subjects": EVERYTHING}),
        ({"filter_subject": ">"}, {"filter_subjects": EVERYTHING}),
        ({"filter_subjects": ["hogsend.>"]}, {"filter_subjects": EVERYTHING}),
        ({"filter_subject": "*.*.*"}, {"filter_subject": "hogsend.events.*"}),
        ({"filter_subject": "hogsend.events.*"}, {"filter_subject": "hogsend.events.*"}),
        ({"filter_subject": "hogsend.*.left"}, {"filter_subject": "hogsend.events.left"}),
        (
            {"filter_subjects": ["*.*.left", "*.*.anna.erased"]},
            {"filter_subjects": ["hogsend.events.left", "*.*.anna.erased"]},
        ),
    ],
)
def test_a_filter_that_matches_everything_is_replaced_by_subjects_without_replayed_copies(
    request_filters: dict[str, Any], sent_filters: dict[str, Any]
) -> None:
    passed_on = passed_on_for(**request_filters)
    assert passed_on["config"] == {"name": "mine", **sent_filters}
    single = sent_filters.get("filter_subject")
    expected = "CREATE.EVENTS.mine" + (f".{single}" if single else "")
    assert passed_on["subject"] == expected


@pytest.mark.parametrize(
    "filter_subject", ["hogsend.replays.mine", "hogsend.replays.*", "*.replays.>"]
)
def test_a_filter_that_matches_only_replayed_copies_is_refused(filter_subject: str) -> None:
    with pytest.raises(Refused, match="without a filter"):
        passed_on_for(filter_subject=filter_subject)


@pytest.mark.parametrize("copies", sorted(subjects.replays_of("mine")))
@pytest.mark.parametrize("filter_subject", [None, "hogsend.events.x"])
def test_a_request_for_a_consumer_that_a_replay_changed_keeps_the_replays_filter(
    filter_subject: str | None, copies: str
) -> None:
    creation = read(
        "DURABLE.CREATE.EVENTS.mine", body(durable_name="mine", filter_subject=filter_subject)
    )
    assert isinstance(creation, Creation)
    existing = [*([filter_subject] if filter_subject else EVERYTHING), copies]
    same = msgspec.json.decode(creation.with_filters_of(None, existing).body)["config"]
    assert same == {"name": "mine", "durable_name": "mine", "filter_subjects": existing}
    # JetStream refuses the request if the existing consumer has other filters.
    assert creation.with_filters_of(None, ["hogsend.events.z", copies]) == creation
    assert creation.with_filters_of("hogsend.events.z", None) == creation


def test_an_update_of_a_consumer_is_refused() -> None:
    request = {"stream_name": "EVENTS", "config": {"name": "mine"}, "action": "update"}
    with pytest.raises(Refused, match="only an operator changes"):
        read(CREATE, msgspec.json.encode(request))


def test_the_filter_is_part_of_the_subject_that_jetstream_checks() -> None:
    request = passed_on_for(
        "CREATE.EVENTS.mine.hogsend.events.x", filter_subject="hogsend.events.x"
    )
    assert request["subject"] == "CREATE.EVENTS.mine.hogsend.events.x"
    assert passed_on_for(filter_subject="hogsend.events.x")["subject"] == request["subject"]
    with pytest.raises(Refused, match="two filters"):
        passed_on_for("CREATE.EVENTS.mine.hogsend.events.x", filter_subject="hogsend.events.y")
    with pytest.raises(Refused, match="not a subject"):
        passed_on_for(filter_subject="hogsend.events.x hogsend.rpc")


def test_a_consumer_without_a_name_gets_a_random_name() -> None:
    first, second = (passed_on_for("CREATE.EVENTS")["config"]["name"] for _ in range(2))
    assert first != second
    assert len(first) == 22
    assert isinstance(read(f"DELETE.EVENTS.{first}", b""), Deletion)


@pytest.mark.parametrize("field", ["name", "durable_name"])
@pytest.mark.parametrize(
    "name", ["a.b", "a b", "*", ">", "a/b", "a\\b", "a\r\nPUB hogsend.rpc 0", "x" * 256]
)
def test_a_name_that_is_no_single_token_of_a_subject_is_refused(field: str, name: str) -> None:
    """The name becomes a token of the subject that the request is passed on with."""
    with pytest.raises(Refused, match="is not the name of a consumer"):
        read("CREATE.EVENTS", body(**{field: name}))


@pytest.mark.parametrize(
    "name", ["n0bodyGuessesThis22", "aBcDeFgHiJkLmNoPqRsTuV", "oc_ZpLy4LvnkbRSVqXHskARGn_2"]
)
def test_a_consumer_with_a_random_name_may_be_deleted(name: str) -> None:
    assert read(f"DELETE.EVENTS.{name}", b"") == Deletion(StreamName.EVENTS, name)


@pytest.mark.parametrize(
    "target",
    [
        *(endpoint.subject for endpoint in endpoints()),
        *(channel.subject for channel in channels()),
        *(f"{inbox_prefix(user)}.x" for user in User if user not in EXTERNAL_USERS),
        "$JS.API.STREAM.PURGE.EVENTS",
        "$SRV.PING",
        "_INBOX.x",
        f"{inbox_prefix(User.SUBSCRIBER)}",
        f"{inbox_prefix(User.SUBSCRIBER)}.>",
        f"{inbox_prefix(User.SUBSCRIBER)}.*.x",
        f"{inbox_prefix(User.SUBSCRIBER)}.x hogsend.rpc.ingest.purge",
        f"{inbox_prefix(User.SUBSCRIBER)}x.y",
    ],
)
def test_a_deliver_subject_that_is_no_inbox_of_an_external_user_is_refused(target: str) -> None:
    with pytest.raises(Refused, match="deliver_subject"):
        passed_on_for(deliver_subject=target, deliver_group="ingest")


@pytest.mark.parametrize("user", EXTERNAL_USERS)
def test_a_deliver_subject_in_the_inbox_of_an_external_user_is_accepted(user: User) -> None:
    inbox = f"{inbox_prefix(user)}.x.y"
    request = passed_on_for(deliver_subject=inbox, flow_control=True, idle_heartbeat=5_000_000_000)
    assert request["config"]["deliver_subject"] == inbox


@pytest.mark.parametrize(
    "config",
    [
        {"Deliver_Subject": "hogsend.rpc.ingest.purge"},
        {"direct": True},
        {"max_ack_pending": -1},
        {"max_waiting": 100_000},
        {"inactive_threshold": 2 * 86400 * 10**9},
        {"num_replicas": 7},
        {"filter_subjects": ["hogsend.events.x"] * 300},
        {"metadata": {str(key): "" for key in range(40)}},
        {"description": "x" * 5000},
        {"ack_policy": "flow_control"},
        {"name": "another"},
        {"name": "mine", "durable_name": "another"},
    ],
)
def test_a_configuration_with_an_unknown_or_too_costly_field_is_refused(
    config: dict[str, Any],
) -> None:
    with pytest.raises(Refused):
        passed_on_for(**config)


@pytest.mark.parametrize(("requested", "passed_on"), [(0, 0), (20_000, 20_000), (65_536, 20_000)])
def test_more_unacknowledged_messages_than_allowed_are_requested_as_the_most_allowed(
    requested: int, passed_on: int
) -> None:
    # 65,536 is what PullSubscribe and SubscribeSync of nats.go request by default.
    config = passed_on_for(max_ack_pending=requested)["config"]
    assert config == {
        "name": "mine",
        "filter_subjects": EVERYTHING,
        "max_ack_pending": passed_on,
    }


@pytest.mark.parametrize(
    "unreadable",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"stream_name":"WEBHOOKS","config":{}}',
        b'{"stream_name":"EVENTS","config":{},"more":1}',
        b"[" * 100_000,
        body(description="x" * 4000) + b" " * 70_000,
    ],
)
def test_a_body_that_cannot_be_read_is_refused(unreadable: bytes) -> None:
    with pytest.raises(Refused):
        read(CREATE, unreadable)


@pytest.mark.parametrize(
    "subject",
    [
        "CREATE",
        "CREATE.WEBHOOKS.x",
        "CREATE.events.x",
        f"CREATE.EVENTS.{MIRROR}",
        f"DURABLE.CREATE.EVENTS.{MIRROR}",
        f"DELETE.EVENTS.{MIRROR}",
        "DELETE.EVENTS.mailer",
        "DELETE.EVENTS.welcomemailerofwelcomes",
        "DELETE.EVENTS.welcomeMailerOfWelcomes",
        "DELETE.EVENTS",
        "PAUSE.EVENTS.mine",
    ],
)
def test_a_request_for_another_stream_or_a_foreign_consumer_is_refused(subject: str) -> None:
    with pytest.raises(Refused):
        read(subject, body())


def test_of_a_repeated_json_key_only_the_last_value_is_passed_on() -> None:
    request = b'{"stream_name":"EVENTS","config":{"deliver_subject":"hogsend.rpc.ingest.purge",'
    request += b'"deliver_subject":"' + INBOX.encode() + b'"}}'
    creation = read(CREATE, request)
    assert isinstance(creation, Creation)
    assert b"purge" not in creation.body


def test_a_mapped_subject_is_translated_back_to_the_subject_of_the_request() -> None:
    for stream in EXTERNAL_STREAMS:
        request = f"$JS.API.CONSUMER.CREATE.{stream}"
        assert request in unmapped(consumer_request_mappings()[request])
    assert "hogsend.js.STREAM.INFO.X" in unmapped("$js.api.STREAM.INFO.X")
    assert unmapped("hogsend.events.x") == ("hogsend.events.x",)

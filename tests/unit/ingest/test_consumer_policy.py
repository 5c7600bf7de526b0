"""What others may ask of JetStream, and how it is passed on."""

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
from services.ingest.consumer_api.policy import Creation, Deletion, Refused, read

INBOX = f"{inbox_prefix(User.SUBSCRIBER)}.abc.1"
CREATE = "CREATE.EVENTS.mine"


def body(**config: Any) -> bytes:
    return msgspec.json.encode({"stream_name": "EVENTS", "config": config})


def created(subject: str = CREATE, /, **config: Any) -> dict[str, Any]:
    """What JetStream is asked."""
    creation = read(subject, body(**config))
    assert isinstance(creation, Creation)
    passed_on: dict[str, Any] = msgspec.json.decode(creation.body)
    return {"subject": creation.subject, **passed_on}


@pytest.mark.parametrize("action", [None, "", "create"])
def test_a_consumer_is_made_and_never_changed(action: str | None) -> None:
    config = {"durable_name": "mine", "filter_subjects": ["hogsend.events.x", "hogsend.events.y"]}
    asked = {"stream_name": "EVENTS", "config": config, "action": action}
    if action is None:
        del asked["action"]
    creation = read("DURABLE.CREATE.EVENTS.mine", msgspec.json.encode(asked))
    assert isinstance(creation, Creation)
    assert msgspec.json.decode(creation.body) == {
        "stream_name": "EVENTS",
        "config": config | {"name": "mine"},
        "action": "create",
    }


def test_a_durable_that_was_made_without_a_name_is_asked_for_without_one() -> None:
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
    ("asked", "made"),
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
def test_who_reads_everything_does_so_by_name_without_the_copies_of_a_durable(
    asked: dict[str, Any], made: dict[str, Any]
) -> None:
    passed_on = created(**asked)
    assert passed_on["config"] == {"name": "mine", **made}
    single = made.get("filter_subject")
    expected = "CREATE.EVENTS.mine" + (f".{single}" if single else "")
    assert passed_on["subject"] == expected


@pytest.mark.parametrize("named", ["hogsend.replays.mine", "hogsend.replays.*", "*.replays.>"])
def test_copies_are_not_asked_for(named: str) -> None:
    with pytest.raises(Refused, match="without a filter"):
        created(filter_subject=named)


@pytest.mark.parametrize("copies", sorted(subjects.replays_of("mine")))
@pytest.mark.parametrize("asked", [None, "hogsend.events.x"])
def test_a_consumer_that_a_replay_changed_is_still_the_one_that_is_asked_for(
    asked: str | None, copies: str
) -> None:
    creation = read("DURABLE.CREATE.EVENTS.mine", body(durable_name="mine", filter_subject=asked))
    assert isinstance(creation, Creation)
    existing = [*([asked] if asked else EVERYTHING), copies]
    same = msgspec.json.decode(creation.with_filters_of(None, existing).body)["config"]
    assert same == {"name": "mine", "durable_name": "mine", "filter_subjects": existing}
    # One that reads something else is another, which JetStream refuses.
    assert creation.with_filters_of(None, ["hogsend.events.z", copies]) == creation
    assert creation.with_filters_of("hogsend.events.z", None) == creation


def test_an_update_is_refused() -> None:
    asked = {"stream_name": "EVENTS", "config": {"name": "mine"}, "action": "update"}
    with pytest.raises(Refused, match="only an operator changes"):
        read(CREATE, msgspec.json.encode(asked))


def test_the_filter_is_part_of_the_subject_as_jetstream_checks_it() -> None:
    asked = created("CREATE.EVENTS.mine.hogsend.events.x", filter_subject="hogsend.events.x")
    assert asked["subject"] == "CREATE.EVENTS.mine.hogsend.events.x"
    assert created(filter_subject="hogsend.events.x")["subject"] == asked["subject"]
    with pytest.raises(Refused, match="two filters"):
        created("CREATE.EVENTS.mine.hogsend.events.x", filter_subject="hogsend.events.y")
    with pytest.raises(Refused, match="not a subject"):
        created(filter_subject="hogsend.events.x hogsend.rpc")


def test_a_consumer_without_a_name_gets_one_that_nobody_guesses() -> None:
    first, second = (created("CREATE.EVENTS")["config"]["name"] for _ in range(2))
    assert first != second
    assert len(first) == 22
    assert isinstance(read(f"DELETE.EVENTS.{first}", b""), Deletion)


@pytest.mark.parametrize(
    "name", ["n0bodyGuessesThis22", "aBcDeFgHiJkLmNoPqRsTuV", "oc_ZpLy4LvnkbRSVqXHskARGn_2"]
)
def test_a_name_that_was_drawn_may_be_deleted(name: str) -> None:
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
def test_messages_are_pushed_to_inboxes_of_others_alone(target: str) -> None:
    with pytest.raises(Refused, match="deliver_subject"):
        created(deliver_subject=target, deliver_group="ingest")


@pytest.mark.parametrize("user", EXTERNAL_USERS)
def test_an_inbox_of_others_is_pushed_to(user: User) -> None:
    inbox = f"{inbox_prefix(user)}.x.y"
    asked = created(deliver_subject=inbox, flow_control=True, idle_heartbeat=5_000_000_000)
    assert asked["config"]["deliver_subject"] == inbox


@pytest.mark.parametrize(
    "config",
    [
        {"Deliver_Subject": "hogsend.rpc.ingest.purge"},
        {"direct": True},
        {"max_ack_pending": -1},
        {"max_ack_pending": 20_001},
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
def test_what_costs_others_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        created(**config)


@pytest.mark.parametrize(
    "asked",
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
def test_what_cannot_be_read_is_refused(asked: bytes) -> None:
    with pytest.raises(Refused):
        read(CREATE, asked)


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
def test_what_belongs_to_others_is_left_alone(subject: str) -> None:
    with pytest.raises(Refused):
        read(subject, body())


def test_the_last_word_of_a_repeated_key_is_the_only_one_passed_on() -> None:
    asked = b'{"stream_name":"EVENTS","config":{"deliver_subject":"hogsend.rpc.ingest.purge",'
    asked += b'"deliver_subject":"' + INBOX.encode() + b'"}}'
    creation = read(CREATE, asked)
    assert isinstance(creation, Creation)
    assert b"purge" not in creation.body


def test_a_refusal_of_a_mapped_subject_is_found_under_the_name_it_was_asked_by() -> None:
    for stream in EXTERNAL_STREAMS:
        asked = f"$JS.API.CONSUMER.CREATE.{stream}"
        assert asked in unmapped(consumer_request_mappings()[asked])
    assert "hogsend.js.STREAM.INFO.X" in unmapped("$js.api.STREAM.INFO.X")
    assert unmapped("hogsend.events.x") == ("hogsend.events.x",)

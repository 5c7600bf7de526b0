"""Capture and persons, as in PostHog's rust/capture and plugin server (contract 4.1, 4.4, 4.5)."""

from __future__ import annotations

import base64
import gzip
import json
from datetime import datetime
from typing import Any

import pytest

from tests.integration.sandbox.driver import Driver, Receiver

KEY = "phc_sandbox_project_key"
UUID = "0190c000-0000-7000-8000-00000000000a"
SECOND, THIRD, FOURTH = (f"{UUID[:-1]}{digit}" for digit in "bcd")
LZ_EVENT = (
    "N4IghgDglg+g1gUwJ4gFwggCwMYwM5gB2AJgEYD2AHjBAE7kBWC2ALvMiADQgIBuChFmhB4oAc0IBXCFxDEoeFlEKsYUYsMk"
    "wAjLLrkICWkoR40oCABsiw/bMJgAtgmEAtcgGuABID4NwCm7IAC+gUA="
)
"""Output of `compressToBase64` of lz-string for an event with a non-ASCII property."""


def event(name: str = "signup", **fields: Any) -> dict[str, Any]:
    return {"event": name, "distinct_id": "u_1", "properties": {"plan": "pro"}, **fields}


async def persons(posthog: Driver, distinct_id: str) -> list[dict[str, Any]]:
    response = await posthog.http.get(
        "/api/projects/4242/persons/",
        params={"distinct_id": distinct_id},
        headers=posthog.key,
    )
    assert response.status_code == 200
    return response.json()["results"]


@pytest.mark.parametrize("path", ["/i/v0/e/", "/e/", "/capture/", "/track/", "/batch/", "/capture"])
async def test_every_capture_endpoint_accepts_an_event_a_batch_and_a_list(
    posthog: Driver, path: str
) -> None:
    by_object = await posthog.http.post(path, json={"api_key": KEY, **event()})
    batch = {"api_key": KEY, "batch": [event("a"), event("b")]}
    by_batch = await posthog.http.post(path, json=batch)
    by_list = await posthog.http.post(path, json=[{**event("c"), "token": KEY}])
    for response in (by_object, by_batch, by_list):
        assert (response.status_code, response.json()) == (200, {"status": "Ok"})
    names = [item["event"] for item in (await posthog.state())["events"]]
    assert names == ["signup", "a", "b", "c"]


async def test_capture_decodes_every_encoding(posthog: Driver) -> None:
    plain = json.dumps({"api_key": KEY, **event()}).encode()
    gzipped, encoded = gzip.compress(plain), base64.b64encode(plain)
    requests: list[dict[str, Any]] = [
        {"content": gzipped, "headers": {"Content-Encoding": "gzip"}},
        {"content": gzipped, "params": {"compression": "gzip"}},
        {"content": gzipped, "params": {"compression": "gzip-js"}},
        {"content": gzipped, "params": {"compression": "GZIP"}},
        {"content": gzipped},
        {"content": base64.b64encode(gzipped)},
        {"content": gzip.compress(encoded)},
        {"data": {"data": encoded.decode()}},
        {"data": {"data": plain.decode()}},
        {"content": encoded, "params": {"compression": "base64"}},
        {"content": encoded},
        {"content": plain, "params": {"compression": "unknown"}},
    ]
    for request in requests:
        response = await posthog.http.post("/e/", **request)
        assert (response.status_code, response.text) == (200, '{"status":"Ok"}'), request
    by_query = await posthog.http.get("/e/", params={"data": encoded.decode()})
    assert by_query.status_code == 200
    stored = (await posthog.state())["events"]
    assert [item["properties"] for item in stored] == [{"plan": "pro"}] * (len(requests) + 1)


async def test_capture_decodes_lz_string_as_older_posthog_js_sends_it(posthog: Driver) -> None:
    requests: list[dict[str, Any]] = [
        {"data": {"data": LZ_EVENT}, "params": {"compression": "lz64"}},
        {"data": {"data": LZ_EVENT, "compression": "lz-string"}},
        {"content": LZ_EVENT.encode(), "params": {"compression": "lz64"}},
        {"content": LZ_EVENT.encode(), "headers": {"Content-Encoding": "lz64"}},
    ]
    for path in ("/e/", "/i/v0/e/"):
        for request in requests:
            response = await posthog.http.post(path, **request)
            assert response.status_code == 200, (response.text, request)
    stored = (await posthog.state())["events"]
    assert [item["properties"] for item in stored] == [{"plan": "pro", "name": "Zoë 🦔"}] * 8
    broken = await posthog.http.post("/e/", content=b"N4Ig", params={"compression": "lz64"})
    assert (broken.status_code, broken.text) == (
        400,
        "failed to decode request: decompress_lz64: failed decompress to UTF16",
    )


async def test_engage_accepts_a_person_without_an_event(posthog: Driver) -> None:
    body = {"token": KEY, "$distinct_id": "u_1", "$set": {"plan": "pro"}}
    assert (await posthog.http.post("/engage/", json=body)).status_code == 200
    ((person,), stored) = (await persons(posthog, "u_1"), (await posthog.state())["events"])
    assert (person["properties"], stored[0]["event"]) == ({"plan": "pro"}, "$identify")


UNKNOWN_FORMAT = (
    "failed to parse request: data did not match any variant of untagged enum RawRequest"
)
NAMELESS = "failed to hydrate events from request: non-engage request missing event name attribute"


def body(**fields: Any) -> bytes:
    return json.dumps({"api_key": KEY, **event(), **fields}).encode()


def batch(*events: dict[str, Any], **fields: Any) -> bytes:
    return json.dumps({"batch": events, **fields}).encode()


# The responses of rust/capture.
REFUSED: list[tuple[bytes, int, str]] = [
    (b"", 400, "request missing data payload"),
    (b"{", 400, "failed to parse request: "),
    (b"no json, no base64", 400, "failed to parse request: "),
    (b"\x1f\x8b\x08broken", 400, "failed to decode request: invalid GZIP data"),
    (gzip.compress(body())[:-9], 400, "failed to decode request: invalid GZIP data"),
    (gzip.compress(b'{"\xff"}'), 400, "failed to decode request: invalid gzip data"),
    (b'{"\xff":1}', 400, "failed to decode request: invalid UTF8 in request payload"),
    (b"[]", 400, "request holds no event"),
    (batch(api_key=KEY), 400, "request holds no event"),
    (b"7", 400, UNKNOWN_FORMAT),
    (b"[7]", 400, UNKNOWN_FORMAT),
    # Keys.
    (json.dumps(event()).encode(), 401, "event submitted without an api_key"),
    (body(api_key=None), 401, "event submitted without an api_key"),
    (body(api_key=""), 401, "API key is not valid: empty"),
    (body(api_key=" \t\n"), 401, "API key is not valid: empty"),
    (body(api_key="phx_a"), 401, "API key is not valid: personal_api_key"),
    (body(api_key=" phx_a "), 401, "API key is not valid: personal_api_key"),
    (body(api_key="a" * 65), 401, "API key is not valid: too_long"),
    (body(api_key="é"), 401, "API key is not valid: not_ascii"),
    (body(api_key="é" * 33), 401, "API key is not valid: too_long"),
    (body(api_key="phc_\0a"), 401, "API key is not valid: null_byte"),
    (body(api_key="phx_\0a"), 401, "API key is not valid: personal_api_key"),
    (body(api_key=7), 400, UNKNOWN_FORMAT),
    (body(api_key=[KEY]), 400, UNKNOWN_FORMAT),
    (body(token=KEY), 400, UNKNOWN_FORMAT),
    (json.dumps([event(token=7), event(token=KEY)]).encode(), 400, UNKNOWN_FORMAT),
    (json.dumps([event(token=KEY), event(token="phc_b")]).encode(), 401, "inconsistent api_key"),
    (json.dumps([event(), event()]).encode(), 401, "event submitted without an api_key"),
    (batch(event(token=KEY)), 400, NAMELESS),
    (batch(event(token=KEY), api_key=7), 400, UNKNOWN_FORMAT),
    # Events.
    (body(event=""), 400, "event submitted with an empty event name"),
    (json.dumps({"api_key": KEY, "distinct_id": "u_1"}).encode(), 400, NAMELESS),
    (body(event=7), 400, NAMELESS),
    (json.dumps([{"token": KEY, "distinct_id": "u_1"}]).encode(), 400, UNKNOWN_FORMAT),
    (body(distinct_id=None), 400, "event submitted without a distinct_id"),
    (body(distinct_id=""), 400, "event submitted without a distinct_id"),
    (body(distinct_id=" \t"), 400, "event submitted without a distinct_id"),
    (body(properties=None), 400, UNKNOWN_FORMAT),
    (body(properties=[]), 400, UNKNOWN_FORMAT),
    (body(timestamp=7), 400, UNKNOWN_FORMAT),
    (body(offset=1.5), 400, UNKNOWN_FORMAT),
    (body(uuid="7"), 400, UNKNOWN_FORMAT),
    (body(uuid=7), 400, UNKNOWN_FORMAT),
    (body(uuid=UUID.replace("-", "", 1)), 400, UNKNOWN_FORMAT),
    (body(uuid=f"{{{UUID}"), 400, UNKNOWN_FORMAT),
    (batch(event(), event(uuid="7"), api_key=KEY), 400, NAMELESS),
    (
        batch(event(), event(properties={"note": "x" * 1_000_000}), api_key=KEY),
        413,
        "maximum event size exceeded",
    ),
    (gzip.compress(b" " * (20 * 1024 * 1024 + 1)), 413, "maximum event size exceeded"),
]


async def test_capture_refuses_an_invalid_request_in_plain_text(posthog: Driver) -> None:
    for content, status, reason in REFUSED:
        response = await posthog.http.post("/i/v0/e/", content=content)
        assert (response.status_code, reason in response.text) == (status, True), (
            content[:200],
            response.text,
        )
        assert response.headers["Content-Type"].startswith("text/plain")
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    response = await posthog.http.post("/i/v0/e/", content=body(), headers=form)
    reason = "failed to decode request: expected form data in POST request payload"
    assert (response.status_code, response.text) == (400, reason)
    assert (await posthog.state())["events"] == []


async def test_capture_accepts_and_normalises_unusual_requests(posthog: Driver) -> None:
    accepted: list[tuple[bytes, dict[str, Any]]] = [
        (body(api_key=f" {KEY}\n"), {}),
        (body(api_key=None, properties={"token": KEY}), {"properties": {}}),
        (json.dumps([event(token=KEY), event()]).encode(), {}),
        (batch(event(token="phc_other"), api_key=KEY), {}),
        (body(uuid=""), {}),
        (body(uuid=UUID.upper()), {"uuid": UUID}),
        (body(uuid=SECOND.replace("-", "")), {"uuid": SECOND}),
        (body(uuid=f"urn:uuid:{THIRD}"), {"uuid": THIRD}),
        (body(uuid=f"{{{FOURTH}}}"), {"uuid": FOURTH}),
        (body(distinct_id=23), {"distinct_id": "23"}),
        (body(distinct_id={"b": 1, "a": [2]}), {"distinct_id": '{"a":[2],"b":1}'}),
        (body(distinct_id=" u_1 "), {"distinct_id": " u_1 "}),
        (body(distinct_id="u\0"), {"distinct_id": "u\ufffd"}),
        (body(distinct_id="€" * 250), {"distinct_id": "€" * 200}),
        (
            body(distinct_id=None, **{"$distinct_id": "u_2"}),
            {"distinct_id": "u_2"},
        ),
        (
            body(distinct_id=None, properties={"distinct_id": "u_3"}),
            {"distinct_id": "u_3"},
        ),
    ]
    for content, expected in accepted:
        response = await posthog.http.post("/i/v0/e/", content=content)
        assert response.status_code == 200, (content, response.text)
        last = (await posthog.state())["events"][-1]
        assert {name: last[name] for name in expected} == expected


async def test_an_unknown_project_key_is_accepted_and_dropped(posthog: Driver) -> None:
    response = await posthog.http.post("/i/v0/e/", json={"api_key": "phc_unknown", **event()})
    assert response.status_code == 200
    state = await posthog.state()
    assert (state["events"], state["events_dropped"]) == ([], 1)


async def test_a_repeated_event_is_stored_once(posthog: Driver) -> None:
    for plan in ("pro", "free"):
        await posthog.capture("signup", uuid=UUID, properties={"$set": {"plan": plan}})
    assert [item["uuid"] for item in (await posthog.state())["events"]] == [UUID]
    assert (await persons(posthog, "u_1"))[0]["properties"] == {"plan": "pro"}


async def test_events_with_one_uuid_and_different_names_or_persons_are_all_stored(
    posthog: Driver,
) -> None:
    captured = [("signup", "u_1"), ("upgraded", "u_1"), ("signup", "u_2")]
    for name, person in captured:
        await posthog.capture(name, person, uuid=UUID)
    stored = (await posthog.state())["events"]
    assert [(item["event"], item["distinct_id"]) for item in stored] == captured
    assert {item["uuid"] for item in stored} == {UUID}


async def test_sent_at_corrects_the_timestamps_of_a_wrong_clock(posthog: Driver) -> None:
    now = posthog.instance.clock.now()
    batch = [event(timestamp="2001-01-01T00:00:00Z")]
    body = {"api_key": KEY, "batch": batch, "sent_at": "2001-01-01T00:01:00Z"}
    await posthog.http.post("/batch/", json=body)
    (stored,) = posthog.instance.pipeline.events.values()
    occurred = datetime.fromisoformat(stored.timestamp).timestamp()
    # The stored time is truncated to milliseconds.
    assert now - 0.001 <= occurred + 60 <= posthog.instance.clock.now()


@pytest.mark.parametrize(
    ("timestamp", "sent_at"),
    [
        ("9999-12-31T23:59:59Z", None),
        ("9999-12-31T23:59:59Z", "2001-01-01T00:00:00Z"),
        ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"),
    ],
)
async def test_an_event_in_the_far_future_or_before_year_1_gets_the_time_of_its_request(
    posthog: Driver, timestamp: str, sent_at: str | None
) -> None:
    arrived = posthog.instance.clock.now()
    batch = {"api_key": KEY, "batch": [event(timestamp=timestamp)], "sent_at": sent_at}
    response = await posthog.http.post("/batch/", json=batch)
    assert response.status_code == 200
    ((stored,), received) = ((await posthog.state())["events"], posthog.instance.clock.now())
    occurred = datetime.fromisoformat(stored["timestamp"]).timestamp()
    assert arrived - 0.001 <= occurred <= received


async def test_ignore_sent_at_keeps_the_timestamp_of_the_event(posthog: Driver) -> None:
    past = event(timestamp="2001-01-01T00:00:00Z", properties={"$ignore_sent_at": True})
    body = {"api_key": KEY, "batch": [past], "sent_at": "2001-01-01T00:01:00Z"}
    await posthog.http.post("/batch/", json=body)
    (stored,) = (await posthog.state())["events"]
    assert stored["timestamp"] == "2001-01-01T00:00:00.000Z"


async def test_the_path_of_ai_events_accepts_events_of_up_to_8_mib(posthog: Driver) -> None:
    large = event("$ai_generation", properties={"$ai_input": "x" * 2_000_000})
    batch = {"api_key": KEY, "batch": [large]}
    response = await posthog.http.post("/i/v0/ai/batch/", json=batch)
    assert (response.status_code, response.json()) == (200, {"status": "Ok"})
    large["properties"]["$ai_input"] *= 5
    assert (await posthog.http.post("/i/v0/ai/batch/", json=batch)).status_code == 413
    assert len((await posthog.state())["events"]) == 1


async def test_set_set_once_and_unset_change_the_properties_of_a_person(posthog: Driver) -> None:
    await posthog.capture("$set", properties={"$set": {"a": 1, "b": 1}, "$set_once": {"c": 1}})
    await posthog.capture(
        "$set", properties={"$set": {"a": 2}, "$set_once": {"c": 2, "d": 2}, "$unset": ["b"]}
    )
    assert (await persons(posthog, "u_1"))[0]["properties"] == {"a": 2, "c": 1, "d": 2}
    # An existing property is removed even if the same event sets it; a new property is set.
    both = {"$set": {"a": 3, "e": 3}, "$unset": ["a", "e"]}
    await posthog.capture("$set", properties=both)
    assert (await persons(posthog, "u_1"))[0]["properties"] == {"c": 1, "d": 2, "e": 3}


async def test_set_outside_the_properties_changes_the_person_too(posthog: Driver) -> None:
    await posthog.capture("$identify", "u_1", **{"$set": {"email": "a@b.com"}})
    (person,) = await persons(posthog, "u_1")
    assert person["properties"] == {"email": "a@b.com"}
    assert person["name"] == "a@b.com"


async def test_identify_merges_two_distinct_ids_into_one_person(posthog: Driver) -> None:
    await posthog.capture("view", "anon", properties={"$set": {"seen": 1, "plan": "free"}})
    await posthog.capture("signup", "u_1", properties={"$set": {"plan": "pro"}})
    await posthog.capture("$identify", "u_1", properties={"$anon_distinct_id": "anon"})
    (by_anon,) = await persons(posthog, "anon")
    (by_user,) = await persons(posthog, "u_1")
    assert by_anon == by_user
    assert by_user["properties"] == {"seen": 1, "plan": "pro"}
    assert sorted(by_user["distinct_ids"]) == ["anon", "u_1"]


async def test_an_alias_is_added_to_the_person_of_the_distinct_id(posthog: Driver) -> None:
    await posthog.capture("$create_alias", "u_1", properties={"alias": "anon"})
    (person,) = await persons(posthog, "anon")
    assert person["distinct_ids"] == ["u_1", "anon"]


async def test_an_alias_does_not_merge_an_identified_person_but_merge_dangerously_does(
    posthog: Driver,
) -> None:
    for id in ("u_1", "u_2"):
        await posthog.capture("$identify", id, properties={"$anon_distinct_id": f"anon_{id}"})
    await posthog.capture("$create_alias", "u_1", properties={"alias": "u_2"})
    assert (await persons(posthog, "u_1"))[0]["id"] != (await persons(posthog, "u_2"))[0]["id"]
    await posthog.capture("$merge_dangerously", "u_1", properties={"alias": "u_2"})
    assert (await persons(posthog, "u_1"))[0]["id"] == (await persons(posthog, "u_2"))[0]["id"]


async def test_an_identify_without_an_anonymous_id_does_not_prevent_a_merge(
    posthog: Driver,
) -> None:
    # The Python SDK's `alias(previous_id="anon", distinct_id="u_1")` merges u_1 into anon.
    await posthog.capture("view", "anon", properties={"$set": {"seen": 1}})
    await posthog.capture("$identify", "u_1", properties={"$set": {"plan": "pro"}})
    (identified,) = await persons(posthog, "u_1")
    assert identified["is_identified"] is False
    await posthog.capture("$create_alias", "anon", properties={"alias": "u_1"})
    (person,) = await persons(posthog, "u_1")
    assert person["properties"] == {"seen": 1, "plan": "pro"}
    assert (person["distinct_ids"], person["is_identified"]) == (["anon", "u_1"], True)


async def test_the_only_existing_person_gets_the_other_distinct_id_and_keeps_its_uuid(
    posthog: Driver,
) -> None:
    await posthog.capture("view", "anon", properties={"$set": {"seen": 1}})
    (before,) = await persons(posthog, "anon")
    await posthog.capture("$identify", "u_1", properties={"$anon_distinct_id": "anon"})
    (after,) = await persons(posthog, "u_1")
    assert (after["uuid"], after["distinct_ids"]) == (before["uuid"], ["anon", "u_1"])
    # An identified person too.
    await posthog.capture("$create_alias", "u_2", properties={"alias": "u_1"})
    assert (await persons(posthog, "u_2"))[0]["uuid"] == before["uuid"]


async def test_an_alias_may_be_a_number(posthog: Driver) -> None:
    await posthog.capture("$create_alias", "u_1", properties={"alias": 42})
    (person,) = await persons(posthog, "42")
    assert person["distinct_ids"] == ["u_1", "42"]


async def test_a_placeholder_id_is_never_merged(posthog: Driver) -> None:
    await posthog.capture("$identify", "u_1", properties={"$anon_distinct_id": "anonymous"})
    assert await persons(posthog, "anonymous") == []


async def test_an_event_without_a_person_profile_creates_no_person(posthog: Driver) -> None:
    await posthog.capture("view", properties={"$process_person_profile": False})
    assert await persons(posthog, "u_1") == []
    assert len((await posthog.state())["events"]) == 1


@pytest.mark.parametrize("event", ["$exception", "$ai_generation", "$ai_mine"])
async def test_exceptions_and_ai_events_do_not_change_the_person(
    posthog: Driver, event: str
) -> None:
    await posthog.capture("view", properties={"$set": {"plan": "free"}})
    await posthog.capture(event, properties={"$set": {"plan": "pro"}, "$unset": ["plan"]})
    assert (await persons(posthog, "u_1"))[0]["properties"]["plan"] == "free"


@pytest.mark.parametrize("event", ["$$heatmap", "$$client_ingestion_warning", "$performance_event"])
async def test_internal_events_of_sdks_are_accepted_but_neither_stored_nor_delivered(
    posthog: Driver, hook: Receiver, event: str
) -> None:
    await posthog.create(url=hook.url, filters={"source": "events"})
    response = await posthog.capture(event, properties={"$set": {"plan": "pro"}})
    assert (response.status_code, response.json()) == (200, {"status": "Ok"})
    await posthog.capture("signup")
    state = await posthog.state()
    assert [item["event"] for item in state["events"]] == ["signup"]
    assert [item["event"] for item in state["deliveries"]] == ["signup"]
    assert (await persons(posthog, "u_1"))[0]["properties"] == {}


async def test_persons_are_listed_newest_first_and_read_by_uuid(posthog: Driver) -> None:
    for distinct_id in ("u_1", "u_2", "u_3"):
        await posthog.capture("signup", distinct_id)
    response = await posthog.http.get("/api/projects/4242/persons/?limit=2", headers=posthog.key)
    page = response.json()
    assert [item["distinct_ids"] for item in page["results"]] == [["u_3"], ["u_2"]]
    assert page["next"] == f"{posthog.url}/api/projects/4242/persons/?limit=2&offset=2"
    address = f"/api/projects/4242/persons/{page['results'][0]['uuid']}/"
    assert (await posthog.http.get(address, headers=posthog.key)).json()["name"] == "u_3"
    assert await persons(posthog, "unknown") == []

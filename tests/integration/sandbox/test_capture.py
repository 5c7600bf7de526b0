"""Capture and persons: rust/capture and the persons it makes (contract 4.1, 4.4, 4.5)."""

from __future__ import annotations

import base64
import gzip
import json
from datetime import datetime
from typing import Any

import pytest

from tests.integration.sandbox.driver import Driver

KEY = "phc_sandbox_project_key"
UUID = "0190c000-0000-7000-8000-00000000000a"
SECOND, THIRD, FOURTH = (f"{UUID[:-1]}{digit}" for digit in "bcd")
LZ_EVENT = (
    "N4IghgDglg+g1gUwJ4gFwggCwMYwM5gB2AJgEYD2AHjBAE7kBWC2ALvMiADQgIBuChFmhB4oAc0IBXCFxDEoeFlEKsYUYsMk"
    "wAjLLrkICWkoR40oCABsiw/bMJgAtgmEAtcgGuABID4NwCm7IAC+gUA="
)
"""What lz-string's own `compressToBase64` made of an event with a name beyond ASCII."""


def event(name: str = "signup", **fields: Any) -> dict[str, Any]:
    return {"event": name, "distinct_id": "u_1", "properties": {"plan": "pro"}, **fields}


async def persons(posthog: Driver, distinct_id: str) -> list[dict[str, Any]]:
    answer = await posthog.http.get(
        "/api/projects/4242/persons/",
        params={"distinct_id": distinct_id},
        headers=posthog.key,
    )
    assert answer.status_code == 200
    return answer.json()["results"]


@pytest.mark.parametrize("path", ["/i/v0/e/", "/e/", "/capture/", "/track/", "/batch/", "/capture"])
async def test_every_address_takes_one_event_and_a_batch(posthog: Driver, path: str) -> None:
    one = await posthog.http.post(path, json={"api_key": KEY, **event()})
    many = await posthog.http.post(path, json={"api_key": KEY, "batch": [event("a"), event("b")]})
    listed = await posthog.http.post(path, json=[{**event("c"), "token": KEY}])
    for answer in (one, many, listed):
        assert (answer.status_code, answer.json()) == (200, {"status": "Ok"})
    names = [one["event"] for one in (await posthog.state())["events"]]
    assert names == ["signup", "a", "b", "c"]


async def test_every_encoding_is_read(posthog: Driver) -> None:
    plain = json.dumps({"api_key": KEY, **event()}).encode()
    zipped, based = gzip.compress(plain), base64.b64encode(plain)
    requests: list[dict[str, Any]] = [
        {"content": zipped, "headers": {"Content-Encoding": "gzip"}},
        {"content": zipped, "params": {"compression": "gzip"}},
        {"content": zipped, "params": {"compression": "gzip-js"}},
        {"content": zipped, "params": {"compression": "GZIP"}},
        {"content": zipped},
        {"content": base64.b64encode(zipped)},
        {"content": gzip.compress(based)},
        {"data": {"data": based.decode()}},
        {"data": {"data": plain.decode()}},
        {"content": based, "params": {"compression": "base64"}},
        {"content": based},
        {"content": plain, "params": {"compression": "what"}},
    ]
    for request in requests:
        answer = await posthog.http.post("/e/", **request)
        assert (answer.status_code, answer.text) == (200, '{"status":"Ok"}'), request
    asked = await posthog.http.get("/e/", params={"data": based.decode()})
    assert asked.status_code == 200
    stored = (await posthog.state())["events"]
    assert [one["properties"] for one in stored] == [{"plan": "pro"}] * (len(requests) + 1)


async def test_lz_string_is_read_as_older_posthog_js_sends_it(posthog: Driver) -> None:
    requests: list[dict[str, Any]] = [
        {"data": {"data": LZ_EVENT}, "params": {"compression": "lz64"}},
        {"data": {"data": LZ_EVENT, "compression": "lz-string"}},
        {"content": LZ_EVENT.encode(), "params": {"compression": "lz64"}},
        {"content": LZ_EVENT.encode(), "headers": {"Content-Encoding": "lz64"}},
    ]
    for path in ("/e/", "/i/v0/e/"):
        for request in requests:
            answer = await posthog.http.post(path, **request)
            assert answer.status_code == 200, (answer.text, request)
    stored = (await posthog.state())["events"]
    assert [one["properties"] for one in stored] == [{"plan": "pro", "name": "Zoë 🦔"}] * 8
    broken = await posthog.http.post("/e/", content=b"N4Ig", params={"compression": "lz64"})
    assert (broken.status_code, broken.text) == (
        400,
        "failed to decode request: decompress_lz64: failed decompress to UTF16",
    )


async def test_engage_takes_a_person_without_an_event(posthog: Driver) -> None:
    body = {"token": KEY, "$distinct_id": "u_1", "$set": {"plan": "pro"}}
    assert (await posthog.http.post("/engage/", json=body)).status_code == 200
    ((person,), stored) = (await persons(posthog, "u_1"), (await posthog.state())["events"])
    assert (person["properties"], stored[0]["event"]) == ({"plan": "pro"}, "$identify")


NO_FORM = "failed to parse request: data did not match any variant of untagged enum RawRequest"
NAMELESS = "failed to hydrate events from request: non-engage request missing event name attribute"


def body(**fields: Any) -> bytes:
    return json.dumps({"api_key": KEY, **event(), **fields}).encode()


def batch(*events: dict[str, Any], **fields: Any) -> bytes:
    return json.dumps({"batch": events, **fields}).encode()


# As rust/capture answers each of these.
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
    (b"7", 400, NO_FORM),
    (b"[7]", 400, NO_FORM),
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
    (body(api_key=7), 400, NO_FORM),
    (body(api_key=[KEY]), 400, NO_FORM),
    (body(token=KEY), 400, NO_FORM),
    (json.dumps([event(token=7), event(token=KEY)]).encode(), 400, NO_FORM),
    (json.dumps([event(token=KEY), event(token="phc_b")]).encode(), 401, "inconsistent api_key"),
    (json.dumps([event(), event()]).encode(), 401, "event submitted without an api_key"),
    (batch(event(token=KEY)), 400, NAMELESS),
    (batch(event(token=KEY), api_key=7), 400, NO_FORM),
    # Events.
    (body(event=""), 400, "event submitted with an empty event name"),
    (json.dumps({"api_key": KEY, "distinct_id": "u_1"}).encode(), 400, NAMELESS),
    (body(event=7), 400, NAMELESS),
    (json.dumps([{"token": KEY, "distinct_id": "u_1"}]).encode(), 400, NO_FORM),
    (body(distinct_id=None), 400, "event submitted without a distinct_id"),
    (body(distinct_id=""), 400, "event submitted without a distinct_id"),
    (body(distinct_id=" \t"), 400, "event submitted without a distinct_id"),
    (body(properties=None), 400, NO_FORM),
    (body(properties=[]), 400, NO_FORM),
    (body(timestamp=7), 400, NO_FORM),
    (body(offset=1.5), 400, NO_FORM),
    (body(uuid="7"), 400, NO_FORM),
    (body(uuid=7), 400, NO_FORM),
    (body(uuid=UUID.replace("-", "", 1)), 400, NO_FORM),
    (body(uuid=f"{{{UUID}"), 400, NO_FORM),
    (batch(event(), event(uuid="7"), api_key=KEY), 400, NAMELESS),
    (
        batch(event(), event(properties={"note": "x" * 1_000_000}), api_key=KEY),
        413,
        "maximum event size exceeded",
    ),
    (gzip.compress(b" " * (20 * 1024 * 1024 + 1)), 413, "maximum event size exceeded"),
]


async def test_capture_refuses_in_plain_text(posthog: Driver) -> None:
    for content, status, reason in REFUSED:
        answer = await posthog.http.post("/i/v0/e/", content=content)
        assert (answer.status_code, reason in answer.text) == (status, True), (
            content[:200],
            answer.text,
        )
        assert answer.headers["Content-Type"].startswith("text/plain")
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await posthog.http.post("/i/v0/e/", content=body(), headers=form)
    reason = "failed to decode request: expected form data in POST request payload"
    assert (answer.status_code, answer.text) == (400, reason)
    assert (await posthog.state())["events"] == []


async def test_what_clients_get_away_with(posthog: Driver) -> None:
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
        answer = await posthog.http.post("/i/v0/e/", content=content)
        assert answer.status_code == 200, (content, answer.text)
        last = (await posthog.state())["events"][-1]
        assert {name: last[name] for name in expected} == expected


async def test_an_unknown_project_key_is_accepted_and_dropped(posthog: Driver) -> None:
    answer = await posthog.http.post("/i/v0/e/", json={"api_key": "phc_unknown", **event()})
    assert answer.status_code == 200
    state = await posthog.state()
    assert (state["events"], state["events_dropped"]) == ([], 1)


async def test_a_repeated_event_is_stored_once(posthog: Driver) -> None:
    for plan in ("pro", "free"):
        await posthog.capture("signup", uuid=UUID, properties={"$set": {"plan": plan}})
    assert [one["uuid"] for one in (await posthog.state())["events"]] == [UUID]
    assert (await persons(posthog, "u_1"))[0]["properties"] == {"plan": "pro"}


async def test_events_of_one_uuid_with_other_names_or_persons_are_kept(posthog: Driver) -> None:
    captured = [("signup", "u_1"), ("upgraded", "u_1"), ("signup", "u_2")]
    for name, person in captured:
        await posthog.capture(name, person, uuid=UUID)
    kept = (await posthog.state())["events"]
    assert [(one["event"], one["distinct_id"]) for one in kept] == captured
    assert {one["uuid"] for one in kept} == {UUID}


async def test_sent_at_corrects_a_wrong_clock(posthog: Driver) -> None:
    now = posthog.instance.clock.now()
    batch = [event(timestamp="2001-01-01T00:00:00Z")]
    body = {"api_key": KEY, "batch": batch, "sent_at": "2001-01-01T00:01:00Z"}
    await posthog.http.post("/batch/", json=body)
    stored = posthog.instance.pipeline.events
    (kept,) = stored.values()
    happened = datetime.fromisoformat(kept.timestamp).timestamp()
    assert 0 <= happened + 60 - now < 30


async def test_set_set_once_and_unset(posthog: Driver) -> None:
    await posthog.capture("$set", properties={"$set": {"a": 1, "b": 1}, "$set_once": {"c": 1}})
    await posthog.capture(
        "$set", properties={"$set": {"a": 2}, "$set_once": {"c": 2, "d": 2}, "$unset": ["b"]}
    )
    assert (await persons(posthog, "u_1"))[0]["properties"] == {"a": 2, "c": 1, "d": 2}
    # What was there goes even if the same event sets it; what was not there is set.
    both = {"$set": {"a": 3, "e": 3}, "$unset": ["a", "e"]}
    await posthog.capture("$set", properties=both)
    assert (await persons(posthog, "u_1"))[0]["properties"] == {"c": 1, "d": 2, "e": 3}


async def test_set_beside_the_properties_is_the_same(posthog: Driver) -> None:
    await posthog.capture("$identify", "u_1", **{"$set": {"email": "a@b.com"}})
    (person,) = await persons(posthog, "u_1")
    assert person["properties"] == {"email": "a@b.com"}
    assert person["name"] == "a@b.com"
    assert person["is_identified"] is True


async def test_identify_makes_two_distinct_ids_one_person(posthog: Driver) -> None:
    await posthog.capture("view", "anon", properties={"$set": {"seen": 1, "plan": "free"}})
    await posthog.capture("signup", "u_1", properties={"$set": {"plan": "pro"}})
    await posthog.capture("$identify", "u_1", properties={"$anon_distinct_id": "anon"})
    (by_anon,) = await persons(posthog, "anon")
    (by_user,) = await persons(posthog, "u_1")
    assert by_anon == by_user
    assert by_user["properties"] == {"seen": 1, "plan": "pro"}
    assert sorted(by_user["distinct_ids"]) == ["anon", "u_1"]


async def test_an_alias_is_absorbed_by_the_distinct_id(posthog: Driver) -> None:
    await posthog.capture("$create_alias", "u_1", properties={"alias": "anon"})
    (person,) = await persons(posthog, "anon")
    assert person["distinct_ids"] == ["u_1", "anon"]


async def test_an_identified_person_is_not_merged_away(posthog: Driver) -> None:
    await posthog.capture("$identify", "u_1")
    await posthog.capture("$identify", "u_2")
    await posthog.capture("$create_alias", "u_1", properties={"alias": "u_2"})
    assert (await persons(posthog, "u_1"))[0]["id"] != (await persons(posthog, "u_2"))[0]["id"]
    await posthog.capture("$merge_dangerously", "u_1", properties={"alias": "u_2"})
    assert (await persons(posthog, "u_1"))[0]["id"] == (await persons(posthog, "u_2"))[0]["id"]


async def test_some_ids_are_never_merged(posthog: Driver) -> None:
    await posthog.capture("$identify", "u_1", properties={"$anon_distinct_id": "anonymous"})
    assert await persons(posthog, "anonymous") == []


async def test_an_event_without_a_profile_makes_no_person(posthog: Driver) -> None:
    await posthog.capture("view", properties={"$process_person_profile": False})
    assert await persons(posthog, "u_1") == []
    assert len((await posthog.state())["events"]) == 1


@pytest.mark.parametrize("event", ["$exception", "$$heatmap", "$ai_generation", "$ai_mine"])
async def test_some_events_change_no_person(posthog: Driver, event: str) -> None:
    await posthog.capture("view", properties={"$set": {"plan": "free"}})
    await posthog.capture(event, properties={"$set": {"plan": "pro"}, "$unset": ["plan"]})
    assert (await persons(posthog, "u_1"))[0]["properties"]["plan"] == "free"


async def test_persons_are_listed_newest_first_and_by_uuid(posthog: Driver) -> None:
    for distinct_id in ("u_1", "u_2", "u_3"):
        await posthog.capture("signup", distinct_id)
    answer = await posthog.http.get("/api/projects/4242/persons/?limit=2", headers=posthog.key)
    page = answer.json()
    assert [one["distinct_ids"] for one in page["results"]] == [["u_3"], ["u_2"]]
    assert page["next"] == f"{posthog.url}/api/projects/4242/persons/?limit=2&offset=2"
    address = f"/api/projects/4242/persons/{page['results'][0]['uuid']}/"
    assert (await posthog.http.get(address, headers=posthog.key)).json()["name"] == "u_3"
    assert await persons(posthog, "nobody") == []

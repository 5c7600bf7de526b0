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
UUID = "0190c000-0000-7000-8000-000000000001"


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


@pytest.mark.parametrize(
    "how", ["header", "gzip", "gzip-js", "magic", "form", "form-gzip", "base64"]
)
async def test_every_encoding_is_read(posthog: Driver, how: str) -> None:
    plain = json.dumps({"api_key": KEY, **event()}).encode()
    zipped, based = gzip.compress(plain), base64.b64encode(plain)
    requests: dict[str, dict[str, Any]] = {
        "header": {"content": zipped, "headers": {"Content-Encoding": "gzip"}},
        "gzip": {"content": zipped, "params": {"compression": "gzip"}},
        "gzip-js": {"content": zipped, "params": {"compression": "gzip-js"}},
        "magic": {"content": zipped},
        "form": {"data": {"data": based.decode()}},
        "form-gzip": {"data": {"data": base64.b64encode(zipped).decode()}},
        "base64": {"content": based, "params": {"compression": "base64"}},
    }
    answer = await posthog.http.post("/e/", **requests[how])
    assert answer.status_code == 200, answer.text
    assert (await posthog.state())["events"][0]["properties"] == {"plan": "pro"}


@pytest.mark.parametrize(
    ("content", "status", "reason"),
    [
        (b"", 400, "failed to parse request"),
        (b"{", 400, "failed to parse request"),
        (b"\x1f\x8bbroken", 400, "failed to decode request"),
        (b"no json, no base64", 400, "failed to decode request"),
        (b"[]", 400, "request holds no event"),
        (json.dumps(event()).encode(), 401, "event submitted without an api_key"),
        (json.dumps(event(api_key=" ")).encode(), 401, "API key is not valid: empty"),
        (
            json.dumps(event(api_key="phx_a")).encode(),
            401,
            "API key is not valid: personal_api_key",
        ),
        (json.dumps(event(api_key="a" * 65)).encode(), 401, "API key is not valid: too_long"),
        (json.dumps(event("", api_key=KEY)).encode(), 400, "empty event name"),
        (json.dumps(event(api_key=KEY, distinct_id="")).encode(), 400, "empty distinct_id"),
        (json.dumps({"api_key": KEY, "event": "a"}).encode(), 400, "without a distinct_id"),
        (json.dumps(event(api_key=KEY, uuid="7")).encode(), 400, "failed to parse request: uuid"),
        (
            json.dumps([event(api_key=KEY), event(api_key=KEY, note="x" * 1_000_000)]).encode(),
            413,
            "maximum event size exceeded",
        ),
        (
            json.dumps([event(api_key=KEY), event(api_key="phc_b")]).encode(),
            401,
            "inconsistent api_key",
        ),
    ],
)
async def test_capture_refuses_in_plain_text(
    posthog: Driver, content: bytes, status: int, reason: str
) -> None:
    answer = await posthog.http.post("/i/v0/e/", content=content)
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert reason in answer.text
    assert (await posthog.state())["events"] == []


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

"""Capture v1, `POST /i/v1/analytics/events`, as in PostHog's rust/capture/src/v1."""

from __future__ import annotations

import gzip
import json
import zlib
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.integration.sandbox.driver import Driver

PATH = "/i/v1/analytics/events"
UUID = "0190c000-0000-7000-8000-00000000000a"
SECOND = "0190c000-0000-7000-8000-00000000000b"
REQUEST_ID = "0190c000-0000-7000-8000-0000000000ff"


def now(**ahead: float) -> str:
    return (datetime.now(UTC) + timedelta(**ahead)).isoformat()


def headers(**changes: str | None) -> dict[str, str]:
    fields = {
        "Authorization": "Bearer phc_sandbox_project_key",
        "Content-Type": "application/json",
        "PostHog-Sdk-Info": "posthog-python/7.0.0",
        "PostHog-Attempt": "1",
        "PostHog-Request-Id": REQUEST_ID,
        "PostHog-Request-Timestamp": now(),
    } | {name.replace("_", "-"): value for name, value in changes.items()}
    return {name: value for name, value in fields.items() if value is not None}


def event(**fields: Any) -> dict[str, Any]:
    return {
        "event": "signup",
        "uuid": UUID,
        "distinct_id": "u_1",
        "timestamp": now(),
        "options": {},
        "properties": {"plan": "pro"},
        **fields,
    }


def batch(*events: dict[str, Any], **fields: Any) -> bytes:
    return json.dumps({"created_at": now(), "batch": events, **fields}).encode()


async def send(posthog: Driver, content: bytes, **changes: str | None) -> httpx.Response:
    return await posthog.http.post(PATH, content=content, headers=headers(**changes))


async def test_a_batch_is_stored_and_the_outcome_of_each_event_returned(posthog: Driver) -> None:
    options = {"process_person_profile": True, "disable_skew_correction": "true"}
    first = event(options=options, session_id="s_1", window_id="w_1")
    first["properties"]["$set"] = {"email": "ada@example.com"}
    response = await send(posthog, batch(first, event(uuid=SECOND.upper(), event="paid")))
    assert response.status_code == 200
    assert response.json() == {"results": {UUID: {"result": "ok"}, SECOND: {"result": "ok"}}}
    state = await posthog.state()
    assert [(item["event"], item["uuid"]) for item in state["events"]] == [
        ("signup", UUID),
        ("paid", SECOND),
    ]
    assert state["events"][0]["properties"] == {
        "plan": "pro",
        "$set": {"email": "ada@example.com"},
        "$lib": "posthog-python",
        "$lib_version": "7.0.0",
        "$process_person_profile": True,
        "$ignore_sent_at": True,
        "$session_id": "s_1",
        "$window_id": "w_1",
    }
    (person,) = state["persons"]
    assert person["properties"] == {"email": "ada@example.com"}


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("DEFLATE", lambda text: zlib.compress(text, wbits=-zlib.MAX_WBITS)),
    ],
)
async def test_a_batch_may_be_compressed(posthog: Driver, encoding: str, compress: Any) -> None:
    response = await send(posthog, compress(batch(event())), Content_Encoding=encoding)
    assert response.json() == {"results": {UUID: {"result": "ok"}}}
    broken = await send(posthog, b"\x1f\x8b\x08", Content_Encoding=encoding)
    assert (broken.status_code, broken.json()["error"]) == (400, "request_decoding_error")


DROPPED: list[tuple[dict[str, Any], str]] = [
    ({"event": ""}, "missing_event_name"),
    ({"event": "x" * 201}, "event_name_too_long"),
    ({"event": "$performance_event"}, "dropped_performance_event"),
    ({"distinct_id": " \t"}, "missing_distinct_id"),
    ({"distinct_id": "é" * 101}, "distinct_id_too_large"),
    ({"timestamp": "2026-01-02T03:04:05"}, "invalid_event_timestamp"),
    ({"timestamp": "yesterday"}, "invalid_event_timestamp"),
    ({"properties": []}, "malformed_event_properties"),
    ({"properties": None}, "malformed_event_properties"),
    ({"options": {"process_person_profile": "maybe"}}, "invalid_options"),
    ({"options": {"product_tour_id": 7}}, "invalid_options"),
    ({"properties": {"note": "x" * 1_000_000}}, "event_too_big"),
]


async def test_an_invalid_event_is_dropped_alone(posthog: Driver) -> None:
    for changes, details in DROPPED:
        response = await send(posthog, batch(event(**changes), event(uuid=SECOND)))
        assert response.status_code == 200
        results = {UUID: {"result": "drop", "details": details}, SECOND: {"result": "ok"}}
        assert response.json() == {"results": results}, changes
    assert [item["uuid"] for item in (await posthog.state())["events"]] == [SECOND]


REFUSED: list[tuple[bytes, dict[str, str | None], int, str]] = [
    (batch(event()), {"Authorization": None}, 401, "missing_authorization"),
    (batch(event()), {"Authorization": "Basic a"}, 400, "invalid_header_value"),
    (batch(event()), {"Authorization": "Bearer phx_a"}, 401, "invalid_api_token"),
    (batch(event()), {"PostHog_Attempt": None}, 400, "missing_required_headers"),
    (batch(event()), {"PostHog_Attempt": "0"}, 400, "invalid_header_value"),
    (batch(event()), {"PostHog_Attempt": "1" * 5000}, 400, "invalid_header_value"),
    (batch(event()), {"PostHog_Request_Id": "7"}, 400, "invalid_header_value"),
    (batch(event()), {"PostHog_Request_Timestamp": "now"}, 400, "invalid_header_value"),
    (batch(event()), {"Content_Type": "text/plain"}, 415, "unsupported_content_type"),
    (batch(event()), {"Content_Encoding": "lz4"}, 415, "unsupported_encoding"),
    (b"", {}, 400, "empty_body"),
    (b"{", {}, 400, "request_parsing_error"),
    (batch(), {}, 400, "empty_batch"),
    (batch(event(), created_at="today"), {}, 400, "invalid_batch"),
    (batch(event(options=None)), {}, 400, "request_parsing_error"),
    (batch(event(uuid="")), {}, 400, "missing_event_uuid"),
    (batch(event(uuid="7")), {}, 400, "invalid_event_uuid"),
    (batch(event(), event(uuid=UUID.upper())), {}, 400, "duplicate_event_uuid"),
]


async def test_an_invalid_request_is_refused_as_a_whole(posthog: Driver) -> None:
    for content, changes, status, error in REFUSED:
        response = await send(posthog, content, **changes)
        assert (response.status_code, response.json()["error"]) == (status, error)
        assert response.json()["error_description"]
    assert (await posthog.state())["events"] == []


async def test_an_event_of_a_placeholder_id_is_accepted_without_a_person(posthog: Driver) -> None:
    placeholder = event(distinct_id=" Anonymous", properties={"$set": {"plan": "pro"}})
    response = await send(posthog, batch(placeholder))
    outcome = {"result": "ok", "details": "person_processing_disabled"}
    assert response.json() == {"results": {UUID: outcome}}
    state = await posthog.state()
    assert ([item["distinct_id"] for item in state["events"]], state["persons"]) == (
        ["Anonymous"],
        [],
    )


async def test_the_header_with_the_clients_time_corrects_a_wrong_clock(posthog: Driver) -> None:
    wrong = event(timestamp="2001-01-01T00:00:00Z")
    right = event(
        uuid=SECOND,
        timestamp="2001-01-01T00:00:00Z",
        options={"disable_skew_correction": True},
    )
    arrived = posthog.instance.clock.now()
    await send(posthog, batch(wrong, right), PostHog_Request_Timestamp="2001-01-01T00:01:00Z")
    corrected, unchanged = (await posthog.state())["events"]
    occurred = datetime.fromisoformat(corrected["timestamp"]).timestamp()
    # The stored time is truncated to milliseconds.
    assert arrived - 0.001 <= occurred + 60 <= posthog.instance.clock.now()
    assert unchanged["timestamp"] == "2001-01-01T00:00:00.000Z"

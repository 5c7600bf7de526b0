"""The published `posthog` package for Python, against the sandbox."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from posthog import Posthog

from hogsend.posthog.flags import FlagsApi, FlagsRequest
from tests.integration.sandbox.driver import Driver, bearer

BY_RUNTIME = [
    {"key": "all"},
    {"key": "client", "evaluation_runtime": "client"},
    {"key": "server", "evaluation_runtime": "server"},
]


async def with_sdk(posthog: Driver, work: Callable[[Posthog], Any], **options: Any) -> Any:
    """Run `work` with a client in a thread, and wait until the client has sent everything."""

    def run() -> Any:
        client = Posthog(
            posthog.instance.options.project_key,
            host=posthog.url,
            gzip=True,
            debug=True,
            on_error=_fail,
            **options,
        )
        try:
            result = work(client)
            client.flush()
            return result
        finally:
            client.shutdown()

    return await asyncio.to_thread(run)


def _fail(error: Exception, _batch: Any) -> None:
    raise error


async def test_the_sdk_captures_events(posthog: Driver) -> None:
    def work(client: Posthog) -> None:
        client.capture("signup", distinct_id="u_1", properties={"plan": "pro"})
        client.capture("paid", distinct_id="u_1", properties={"amount": 12})

    await with_sdk(posthog, work)
    events = (await posthog.state())["events"]
    assert [event["event"] for event in events] == ["signup", "paid"]
    assert events[0]["distinct_id"] == "u_1"
    assert events[0]["properties"]["plan"] == "pro"
    assert events[0]["properties"]["$lib"] == "posthog-python"


@pytest.mark.parametrize("compression", ["none", "gzip", "deflate"])
async def test_the_sdk_captures_events_with_capture_v1(posthog: Driver, compression: str) -> None:
    def work(client: Posthog) -> None:
        client.capture("signup", distinct_id="u_1", properties={"plan": "pro"})
        client.set(distinct_id="u_1", properties={"email": "a@b.com"})

    await with_sdk(posthog, work, capture_mode="v1", capture_compression=compression)
    state = await posthog.state()
    assert [event["event"] for event in state["events"]] == ["signup", "$set"]
    assert state["events"][0]["properties"]["$lib"] == "posthog-python"
    assert state["persons"][0]["properties"] == {"email": "a@b.com"}


async def test_the_sdk_sets_properties_and_aliases(posthog: Driver) -> None:
    def work(client: Posthog) -> None:
        client.set(distinct_id="u_1", properties={"email": "a@b.com"})
        client.set_once(distinct_id="u_1", properties={"email": "x@y.com", "first": "yes"})
        client.alias("anon", "u_1")

    await with_sdk(posthog, work)
    (person,) = (await posthog.state())["persons"]
    assert person["properties"]["email"] == "a@b.com"
    assert person["properties"]["first"] == "yes"
    assert {"anon", "u_1"} == set(person["distinct_ids"])


async def test_the_sdk_evaluates_flags_remotely(posthog: Driver) -> None:
    flags = [
        {"key": "on"},
        {"key": "off", "enabled": False},
        {"key": "colour", "variant": "blue", "payload": {"hex": "#00f"}},
        {"key": "only-u-2", "distinct_ids": ["u_2"]},
        {"key": "pros", "properties": [{"key": "plan", "value": ["pro"]}]},
    ]
    await posthog.http.put("/_sandbox/flags", json=flags)
    await posthog.capture("$set", "u_1", properties={"$set": {"plan": "pro"}})

    def work(client: Posthog) -> list[Any]:
        first = client.evaluate_flags("u_1")
        third = client.evaluate_flags("u_3", person_properties={"plan": "pro"})
        return [
            client.get_all_flags("u_1"),
            client.get_all_flags("u_2"),
            first.is_enabled("on"),
            first.is_enabled("off"),
            first.get_flag("colour"),
            first.get_flag_payload("colour"),
            first.is_enabled("unknown"),
            third.is_enabled("pros"),
        ]

    first_flags, second_flags, *values = await with_sdk(posthog, work)
    assert first_flags == {
        "on": True,
        "off": False,
        "colour": "blue",
        "only-u-2": False,
        "pros": True,
    }
    assert second_flags == {
        "on": True,
        "off": False,
        "colour": "blue",
        "only-u-2": True,
        "pros": False,
    }
    assert values == [True, False, "blue", {"hex": "#00f"}, False, True]
    events = (await posthog.state())["events"]
    assert {event["event"] for event in events if event["event"] != "$set"} == {
        "$feature_flag_called"
    }


@pytest.mark.parametrize(
    ("fields", "headers", "keys"),
    [
        ({}, {}, {"all"}),
        ({}, {"User-Agent": "hogsend/1"}, {"all"}),
        ({}, {"User-Agent": "posthog-unknown/1"}, {"all"}),
        ({}, {"User-Agent": "posthog-python/7.0.0"}, {"all", "server"}),
        ({}, {"User-Agent": "curl/8.5.0"}, {"all", "server"}),
        ({}, {"User-Agent": "posthog-ios/3.0.0"}, {"all", "client"}),
        ({}, {"User-Agent": "Mozilla/5.0 (X11)"}, {"all", "client"}),
        ({}, {"Origin": "https://example.com"}, {"all", "client"}),
        ({"evaluation_runtime": "server"}, {"User-Agent": "Mozilla/5.0"}, {"all", "server"}),
        ({"evaluation_runtime": "Client"}, {}, {"all", "client"}),
        ({"evaluation_runtime": "all"}, {}, {"all", "client", "server"}),
        ({"evaluation_runtime": "other"}, {}, {"all", "client", "server"}),
        ({"evaluation_runtime": "server", "flag_keys_to_evaluate": ["client"]}, {}, set()),
    ],
)
async def test_only_flags_of_the_requests_runtime_are_evaluated(
    posthog: Driver, fields: dict[str, Any], headers: dict[str, str], keys: set[str]
) -> None:
    await posthog.http.put("/_sandbox/flags", json=BY_RUNTIME)
    body = {"token": posthog.instance.options.project_key, "distinct_id": "u_1", **fields}
    response = await posthog.http.post("/flags/?v=2", json=body, headers=headers)
    assert set(response.json()["flags"]) == keys


async def test_a_flags_request_of_hogsend_is_evaluated_for_the_server_runtime(
    posthog: Driver,
) -> None:
    await posthog.http.put("/_sandbox/flags", json=BY_RUNTIME)
    request = FlagsRequest(
        token=posthog.instance.options.project_key,
        distinct_id="u_1",
        groups={},
        person_properties={},
        group_properties={},
        geoip_disable=True,
    )
    evaluated = await FlagsApi(posthog.http).evaluate(posthog.url, request)
    assert set(evaluated.flags) == {"all", "server"}


async def test_legacy_flag_routes_respond_and_invalid_requests_are_refused(posthog: Driver) -> None:
    await posthog.http.put("/_sandbox/flags", json=[{"key": "colour", "variant": "blue"}])
    body = {"token": posthog.instance.options.project_key, "distinct_id": "u_1"}
    for address in ("/decide/?v=3", "/flags/"):
        response = (await posthog.http.post(address, json=body)).json()
        assert response["featureFlags"] == {"colour": "blue"}
    details = (await posthog.http.post("/flags/?v=2", json=body)).json()["flags"]["colour"]
    assert details["reason"]["code"] == "condition_match"
    wrong = await posthog.http.post("/flags/?v=2", json=body | {"token": "phc_wrong"})
    assert (wrong.status_code, wrong.json()["code"]) == (401, "invalid_api_key")
    no_person = await posthog.http.post("/flags/?v=2", json={"token": body["token"]})
    assert no_person.status_code == 400


async def test_the_sdk_evaluates_flags_locally(posthog: Driver) -> None:
    flags = [
        {"key": "on"},
        {"key": "off", "enabled": False},
        {"key": "colour", "variant": "blue", "payload": {"hex": "#00f"}},
        {"key": "only-u-2", "distinct_ids": ["u_2"]},
        {"key": "pros", "properties": [{"key": "plan", "value": ["pro"]}]},
    ]
    await posthog.http.put("/_sandbox/flags", json=flags)

    def run() -> list[Any]:
        client = Posthog(
            posthog.instance.options.project_key,
            host=posthog.url,
            secret_key=posthog.instance.options.flags_key,
            enable_local_evaluation=False,
        )
        try:
            for _ in ("first", "with the ETag of the first response"):
                client.load_feature_flags()  # type: ignore[no-untyped-call]
            pro = {"plan": "pro"}
            return [
                client.get_all_flags("u_1", person_properties=pro, only_evaluate_locally=True),
                client.get_all_flags("u_2", person_properties={}, only_evaluate_locally=True),
                client.get_remote_config_payload("colour"),
            ]
        finally:
            client.shutdown()

    first_flags, second_flags, payload = await asyncio.to_thread(run)
    assert first_flags == {
        "on": True,
        "off": False,
        "colour": "blue",
        "only-u-2": False,
        "pros": True,
    }
    assert second_flags["only-u-2"] is True
    assert json.loads(payload) == {"hex": "#00f"}


async def test_flag_definitions_require_the_flags_key_or_a_personal_key(
    posthog: Driver,
) -> None:
    await posthog.http.put("/_sandbox/flags", json=[{"key": "on"}])
    options = posthog.instance.options
    for address in ("/flags/definitions", "/api/feature_flag/local_evaluation/"):
        query = {"token": options.project_key, "send_cohorts": ""}
        for key in (options.flags_key, options.personal_key):
            definitions = await posthog.http.get(address, params=query, headers=bearer(key))
            assert [flag["key"] for flag in definitions.json()["flags"]] == ["on"]
            again = bearer(key) | {"If-None-Match": definitions.headers["ETag"]}
            same = await posthog.http.get(address, params=query, headers=again)
            assert (same.status_code, same.content) == (304, b"")
        for key in ("phs_wrong", "phx_wrong"):
            refused = await posthog.http.get(address, params=query, headers=bearer(key))
            assert refused.status_code == 401
        wrong_project = {"token": "phc_other"}
        refused = await posthog.http.get(address, params=wrong_project, headers=posthog.key)
        assert refused.status_code == 401
    await posthog.http.put("/_sandbox/flags", json=[{"key": "on"}, {"key": "new"}])
    changed = await posthog.http.get("/flags/definitions", headers=again)
    assert changed.status_code == 200
    address = "/api/projects/@current/feature_flags/nothing/remote_config"
    assert (await posthog.http.get(address, headers=posthog.key)).status_code == 404


async def test_decide_returns_the_configuration_with_which_old_posthog_js_starts_autocapture(
    posthog: Driver,
) -> None:
    body = {"token": posthog.instance.options.project_key, "distinct_id": "u_1"}
    await posthog.http.put("/_sandbox/flags", json=[{"key": "on"}])
    for address in ("/decide/?v=3", "/flags/?v=2&config=true"):
        answer = (await posthog.http.post(address, json=body)).json()
        assert answer["config"] == {"enable_collect_everything": True}, address
        assert (answer["isAuthenticated"], answer["toolbarParams"]) == (False, {})
        assert answer["supportedCompression"] == ["gzip", "gzip-js"]
        assert answer["analytics"] == {"endpoint": "/i/v0/e/"}
        assert "on" in answer.get("flags", answer.get("featureFlags"))
    assert "config" not in (await posthog.http.post("/flags/?v=2", json=body)).json()

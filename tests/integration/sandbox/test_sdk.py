"""The published `posthog` package, unmodified, against the sandbox."""

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


async def with_sdk(posthog: Driver, work: Callable[[Posthog], Any]) -> Any:
    """Run `work` with a client in a thread, and wait until all is sent."""

    def run() -> Any:
        client = Posthog(
            posthog.instance.options.project_key,
            host=posthog.url,
            gzip=True,
            debug=True,
            on_error=_fail,
        )
        try:
            outcome = work(client)
            client.flush()
            return outcome
        finally:
            client.shutdown()

    return await asyncio.to_thread(run)


def _fail(error: Exception, _batch: Any) -> None:
    raise error


async def test_it_captures(posthog: Driver) -> None:
    def work(client: Posthog) -> None:
        client.capture("signup", distinct_id="u_1", properties={"plan": "pro"})
        client.capture("paid", distinct_id="u_1", properties={"amount": 12})

    await with_sdk(posthog, work)
    events = (await posthog.state())["events"]
    assert [one["event"] for one in events] == ["signup", "paid"]
    assert events[0]["distinct_id"] == "u_1"
    assert events[0]["properties"]["plan"] == "pro"
    assert events[0]["properties"]["$lib"] == "posthog-python"


async def test_it_identifies(posthog: Driver) -> None:
    def work(client: Posthog) -> None:
        client.set(distinct_id="u_1", properties={"email": "a@b.com"})
        client.set_once(distinct_id="u_1", properties={"email": "x@y.com", "first": "yes"})
        client.alias("anon", "u_1")

    await with_sdk(posthog, work)
    (person,) = (await posthog.state())["persons"]
    assert person["properties"]["email"] == "a@b.com"
    assert person["properties"]["first"] == "yes"
    assert {"anon", "u_1"} == set(person["distinct_ids"])


async def test_it_evaluates_flags(posthog: Driver) -> None:
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
        one = client.evaluate_flags("u_1")
        three = client.evaluate_flags("u_3", person_properties={"plan": "pro"})
        return [
            client.get_all_flags("u_1"),
            client.get_all_flags("u_2"),
            one.is_enabled("on"),
            one.is_enabled("off"),
            one.get_flag("colour"),
            one.get_flag_payload("colour"),
            one.is_enabled("unknown"),
            three.is_enabled("pros"),
        ]

    of_one, of_two, *answers = await with_sdk(posthog, work)
    assert of_one == {"on": True, "off": False, "colour": "blue", "only-u-2": False, "pros": True}
    assert of_two == {"on": True, "off": False, "colour": "blue", "only-u-2": True, "pros": False}
    assert answers == [True, False, "blue", {"hex": "#00f"}, False, True]
    called = [one for one in (await posthog.state())["events"] if one["event"] != "$set"]
    assert {one["event"] for one in called} == {"$feature_flag_called"}


@pytest.mark.parametrize(
    ("asked", "headers", "found"),
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
async def test_flags_of_another_runtime_are_not_evaluated(
    posthog: Driver, asked: dict[str, Any], headers: dict[str, str], found: set[str]
) -> None:
    await posthog.http.put("/_sandbox/flags", json=BY_RUNTIME)
    body = {"token": posthog.instance.options.project_key, "distinct_id": "u_1", **asked}
    answer = await posthog.http.post("/flags/?v=2", json=body, headers=headers)
    assert set(answer.json()["flags"]) == found


async def test_our_own_request_is_that_of_a_server(posthog: Driver) -> None:
    await posthog.http.put("/_sandbox/flags", json=BY_RUNTIME)
    request = FlagsRequest(
        token=posthog.instance.options.project_key,
        distinct_id="u_1",
        groups={},
        person_properties={},
        group_properties={},
        geoip_disable=True,
    )
    found = await FlagsApi(posthog.http).evaluate(posthog.url, request)
    assert set(found.flags) == {"all", "server"}


async def test_legacy_answers_and_wrong_keys(posthog: Driver) -> None:
    await posthog.http.put("/_sandbox/flags", json=[{"key": "colour", "variant": "blue"}])
    body = {"token": posthog.instance.options.project_key, "distinct_id": "u_1"}
    for address in ("/decide/?v=3", "/flags/"):
        answer = (await posthog.http.post(address, json=body)).json()
        assert answer["featureFlags"] == {"colour": "blue"}
    details = (await posthog.http.post("/flags/?v=2", json=body)).json()["flags"]["colour"]
    assert details["reason"]["code"] == "condition_match"
    wrong = await posthog.http.post("/flags/?v=2", json=body | {"token": "phc_wrong"})
    assert (wrong.status_code, wrong.json()["code"]) == (401, "invalid_api_key")
    nobody = await posthog.http.post("/flags/?v=2", json={"token": body["token"]})
    assert nobody.status_code == 400


async def test_it_evaluates_flags_by_itself(posthog: Driver) -> None:
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
            for _ in ("first", "with the ETag of the first answer"):
                client.load_feature_flags()  # type: ignore[no-untyped-call]
            pro = {"plan": "pro"}
            return [
                client.get_all_flags("u_1", person_properties=pro, only_evaluate_locally=True),
                client.get_all_flags("u_2", person_properties={}, only_evaluate_locally=True),
                client.get_remote_config_payload("colour"),
            ]
        finally:
            client.shutdown()

    of_one, of_two, payload = await asyncio.to_thread(run)
    assert of_one == {"on": True, "off": False, "colour": "blue", "only-u-2": False, "pros": True}
    assert of_two["only-u-2"] is True
    assert json.loads(payload) == {"hex": "#00f"}


async def test_definitions_are_for_the_flags_key_or_a_key_with_the_scope(
    posthog: Driver,
) -> None:
    await posthog.http.put("/_sandbox/flags", json=[{"key": "on"}])
    options = posthog.instance.options
    for address in ("/flags/definitions", "/api/feature_flag/local_evaluation/"):
        query = {"token": options.project_key, "send_cohorts": ""}
        for key in (options.flags_key, options.personal_key):
            found = await posthog.http.get(address, params=query, headers=bearer(key))
            assert [flag["key"] for flag in found.json()["flags"]] == ["on"]
            again = bearer(key) | {"If-None-Match": found.headers["ETag"]}
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

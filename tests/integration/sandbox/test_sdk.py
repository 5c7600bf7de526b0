"""The published `posthog` package, unmodified, against the sandbox."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from posthog import Posthog

from tests.integration.sandbox.driver import Driver


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

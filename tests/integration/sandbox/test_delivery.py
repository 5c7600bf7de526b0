"""Webhooks: what is sent, to whom, and how often (`nodejs/src/cdp/`, contract 5.3)."""

from __future__ import annotations

import base64
from typing import Any
from uuid import UUID

import pytest
from standardwebhooks.webhooks import Webhook

from sandbox.delivery.payload import render
from sandbox.delivery.retries import delay
from sandbox.delivery.signing import signed, signing_key
from sandbox.functions.filters import PropertyFilter, holds
from sandbox.options import Resolve
from tests.integration.sandbox.driver import Driver, Receiver, receiver, sandbox
from tests.ports import free_port
from tests.waiting import eventually

IDENTIFIED = {"key": "$is_identified", "type": "event", "value": ["true"], "operator": "exact"}


async def outcome(posthog: Driver, wanted: str) -> dict[str, Any]:
    """The only delivery, once it has come to `wanted`."""

    async def found() -> dict[str, Any] | None:
        (delivery,) = (await posthog.state())["deliveries"]
        return delivery if delivery["outcome"] == wanted else None

    return await eventually(found)


async def test_an_event_arrives_with_posthogs_payload(posthog: Driver, hook: Receiver) -> None:
    await posthog.create(url=hook.url)
    properties = {"plan": "pro", "$set": {"email": "a@b.com"}}
    await posthog.capture("signup", "u 1", properties=properties)
    delivery = await outcome(posthog, "delivered")
    (request,) = hook.received
    assert (request.method, request.path) == ("POST", "/v1/webhooks/posthog")
    assert request.headers["x-posthog-webhook-secret"] == "s"
    assert request.headers["content-type"] == "application/json"
    event, person = request.body["event"], request.body["person"]
    assert event["uuid"] == delivery["event_uuid"]
    assert (event["event"], event["distinct_id"]) == ("signup", "u 1")
    assert event["properties"] == properties
    assert event["timestamp"].endswith("Z")
    assert event["url"].startswith(f"{posthog.url}/project/4242/events/{event['uuid']}/")
    assert person["properties"] == {"email": "a@b.com"}
    assert person["name"] == "a@b.com"
    assert person["url"] == f"{posthog.url}/project/4242/person/u%201"
    assert [one["status"] for one in delivery["attempts"]] == [200]


async def test_an_event_without_a_profile_comes_with_an_id_and_no_properties(
    posthog: Driver, hook: Receiver
) -> None:
    await posthog.create(url=hook.url)
    without = {"$process_person_profile": False, "$set": {"plan": "pro"}}
    await posthog.capture("view", "anon", properties=without)
    await posthog.capture("signup", "u_1", properties={"$set": {"email": "a@b.com"}})
    await posthog.capture("view", "u_1", properties=without)
    await eventually(lambda: len(hook.received) == 3)
    shown = {
        (one.body["event"]["event"], one.body["person"]["name"]): one.body["person"]
        for one in hook.received
    }
    assert shown["view", "anon"]["properties"] == shown["view", "u_1"]["properties"] == {}
    assert shown["view", "u_1"]["id"] == shown["signup", "a@b.com"]["id"]
    assert UUID(shown["view", "anon"]["id"]).version == 5
    views = [one.body["event"] for one in hook.received if one.body["event"]["event"] == "view"]
    assert [one["properties"] for one in views] == [{"$process_person_profile": False}] * 2


async def test_of_an_event_of_ai_what_is_large_is_not_delivered(
    posthog: Driver, hook: Receiver
) -> None:
    await posthog.create(url=hook.url)
    large = {"$ai_input": [{"role": "user"}], "$ai_output_choices": [], "$ai_tools": []}
    await posthog.capture("$ai_generation", properties={"$ai_model": "m", **large})
    await posthog.capture("question", properties=large)
    await eventually(lambda: len(hook.received) == 2)
    arrived = {one.body["event"]["event"]: one.body["event"]["properties"] for one in hook.received}
    assert arrived == {"$ai_generation": {"$ai_model": "m"}, "question": large}


async def test_the_body_template_is_rendered(posthog: Driver, hook: Receiver) -> None:
    made = await posthog.create(url=hook.url)
    inputs = made["inputs"]
    inputs["url"] = {"value": f"{hook.url}?who={{event.distinct_id}}"}
    inputs["method"] = {"value": "PUT"}
    inputs["body"] = {
        "value": {"mail": "{person.properties.email}", "all": "{person}", "in": "{project.id}"}
    }
    inputs["headers"] = {"value": {"X-Event": "{event.event}!"}}
    address = f"/api/projects/4242/hog_functions/{made['id']}/"
    await posthog.http.patch(address, json={"inputs": inputs}, headers=posthog.key)
    await posthog.capture("signup", properties={"$set": {"email": "a@b.com"}})
    await outcome(posthog, "delivered")
    (request,) = hook.received
    assert (request.method, request.path) == ("PUT", "/v1/webhooks/posthog?who=u_1")
    assert request.headers["x-event"] == "signup!"
    assert request.body["mail"] == "a@b.com"
    assert request.body["all"]["properties"] == {"email": "a@b.com"}
    assert request.body["in"] == 4242


@pytest.mark.parametrize(
    ("template", "filled"),
    [
        ("{a.b}", [1]),
        ("x {a.b} y", "x [1] y"),
        ("{a.missing}", None),
        ("x{a.missing}", "x"),
        (r"\{a.b}", "{a.b}"),
        ("{ not a path }", "{ not a path }"),
        ([{"{a.c}": "{a.c}"}], [{"text": "text"}]),
        (12, 12),
    ],
)
def test_templates(template: Any, filled: Any) -> None:
    assert render(template, {"a": {"b": [1], "c": "text"}}) == filled


async def test_only_identified_events_pass_the_identified_filter(
    posthog: Driver, hook: Receiver
) -> None:
    await posthog.create(url=hook.url, filters={"source": "events", "properties": [IDENTIFIED]})
    # A server SDK does not send the property, whoever the person is.
    await posthog.capture("$identify", "u_1")
    await posthog.capture("plain", "u_1")
    await posthog.capture("not yet", "u_1", properties={"$is_identified": False})
    await posthog.capture("as boolean", "u_1", properties={"$is_identified": True})
    await posthog.capture("as text", "u_1", properties={"$is_identified": "true"})
    await eventually(lambda: len(hook.received) == 2)
    names = {one.body["event"]["event"] for one in hook.received}
    assert names == {"as boolean", "as text"}
    outcomes = [one["outcome"] for one in (await posthog.state())["deliveries"]]
    assert outcomes.count("filtered") == 3


async def test_only_the_named_events_pass(posthog: Driver, hook: Receiver) -> None:
    events = [
        {"id": "signup", "type": "events"},
        {"id": "paid", "properties": [{"key": "amount", "value": 10, "operator": "gt"}]},
    ]
    person = [{"key": "email", "type": "person", "operator": "is_set"}]
    await posthog.create(url=hook.url, filters={"events": events, "properties": person})
    for name, amount in (("signup", 0), ("paid", 5), ("paid", 50), ("viewed", 50)):
        await posthog.capture(name, "nobody", properties={"amount": amount})
        set_email = {"email": "a@b.com"}
        await posthog.capture(name, "u_1", properties={"amount": amount, "$set": set_email})
    await eventually(lambda: len(hook.received) == 2)
    arrived = {
        (one.body["event"]["event"], one.body["event"]["properties"]["amount"])
        for one in hook.received
    }
    assert arrived == {("signup", 0), ("paid", 50)}


@pytest.mark.parametrize(
    ("operator", "wanted", "found", "expected"),
    [
        ("exact", ["a", "b"], "b", True),
        ("exact", ["a"], "A", False),
        ("exact", "1", 1, True),
        ("exact", ["true"], True, True),
        ("exact", ["a"], None, False),
        ("is_not", ["a", "b"], "b", False),
        ("is_not", ["a"], "c", True),
        ("is_not", ["a"], None, True),
        ("icontains", "EXAMPLE", "a@example.com", True),
        ("icontains", "x", None, False),
        ("not_icontains", "x", "y", True),
        ("regex", "^a.c$", "abc", True),
        ("regex", "(", "abc", False),
        ("not_regex", "^a", "abc", False),
        ("is_set", None, 0, True),
        ("is_set", None, None, False),
        ("is_not_set", None, None, True),
        ("gt", 3, "4", True),
        ("lt", 3, "x", False),
    ],
)
def test_operators(operator: str, wanted: Any, found: Any, expected: bool) -> None:
    condition = PropertyFilter("key", wanted, operator)
    assert holds(condition, {} if found is None else {"key": found}, {}) is expected


async def test_an_unknown_operator_blocks_with_a_reason(posthog: Driver, hook: Receiver) -> None:
    unknown = {"key": "a", "value": "b", "operator": "is_date_before"}
    await posthog.create(url=hook.url, filters={"properties": [unknown]})
    assert (await posthog.capture("signup")).status_code == 200
    assert "is_date_before" in (await outcome(posthog, "blocked"))["reason"]


async def test_an_invalid_request_fails_and_capture_goes_on(
    posthog: Driver, hook: Receiver
) -> None:
    made = await posthog.create(url=hook.url)
    inputs = made["inputs"] | {"headers": {"value": {"X-Name": "{event.properties.name}"}}}
    address = f"/api/projects/4242/hog_functions/{made['id']}/"
    await posthog.http.patch(address, json={"inputs": inputs}, headers=posthog.key)
    answer = await posthog.capture("signup", properties={"name": "Ælfred\r\nX: y"})
    assert answer.status_code == 200
    await outcome(posthog, "retrying")
    await posthog.advance(3)
    await eventually(lambda: len(posthog.instance.deliveries.all[0].attempts) == 2)
    await posthog.advance(4)
    assert (await outcome(posthog, "failed"))["reason"]
    assert hook.received == []


async def test_a_disabled_function_gets_nothing(posthog: Driver, hook: Receiver) -> None:
    await posthog.create(url=hook.url, enabled=False)
    await posthog.capture("signup")
    assert (await posthog.state())["deliveries"] == []


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
async def test_a_failure_is_retried_until_it_succeeds(hook: Receiver, status: int) -> None:
    async with sandbox(backoff_seconds=0.0) as posthog:
        await posthog.create(url=hook.url)
        hook.answers = [(status, {}), (status, {})]
        await posthog.capture("signup")
        delivery = await outcome(posthog, "delivered")
        assert [one["status"] for one in delivery["attempts"]] == [status, status, 200]


async def test_a_delivery_fails_after_three_attempts(hook: Receiver) -> None:
    async with sandbox(backoff_seconds=0.0) as posthog:
        await posthog.create(url=hook.url)
        hook.answers = [(503, {})] * 4
        await posthog.capture("signup")
        assert len((await outcome(posthog, "failed"))["attempts"]) == 3
        assert len(hook.received) == 3


@pytest.mark.parametrize("status", [301, 400, 401, 404, 413, 501])
async def test_other_failures_are_not_retried(hook: Receiver, status: int) -> None:
    async with sandbox(backoff_seconds=0.0) as posthog:
        await posthog.create(url=hook.url)
        hook.answers = [(status, {})]
        await posthog.capture("signup")
        assert len((await outcome(posthog, "failed"))["attempts"]) == 1


async def test_a_rate_limit_is_retried_like_any_other_failure(hook: Receiver) -> None:
    """PostHog does not read its `Retry-After` (nodejs/src/cdp, hog-executor-async.service.ts)."""
    async with sandbox(backoff_seconds=0.0) as posthog:
        await posthog.create(url=hook.url)
        hook.answers = [(429, {"Retry-After": "200"})] * 9
        await posthog.capture("signup")
        assert len((await outcome(posthog, "failed"))["attempts"]) == 3


async def test_a_dropped_connection_is_retried_at_once(posthog: Driver, hook: Receiver) -> None:
    await posthog.create(url=hook.url)
    hook.drop = 1
    await posthog.capture("signup")
    assert len((await outcome(posthog, "delivered"))["attempts"]) == 1
    assert len(hook.received) == 2


async def test_no_delivery_waits_for_others_that_are_not_answered(
    posthog: Driver, hook: Receiver
) -> None:
    await posthog.create(url=hook.url)
    hook.answering.clear()
    # More than an HTTP client has connections by default.
    for _ in range(120):
        await posthog.capture("signup")
    await eventually(lambda: len(hook.received) == 120)
    hook.answering.set()

    async def are_delivered() -> bool:
        found = (await posthog.state())["deliveries"]
        return {one["outcome"] for one in found} == {"delivered"}

    await eventually(are_delivered)
    assert {len(one["attempts"]) for one in (await posthog.state())["deliveries"]} == {1}


async def test_an_unreachable_receiver_is_tried_three_times() -> None:
    async with sandbox(backoff_seconds=0.0) as posthog:
        await posthog.create(url=f"http://127.0.0.1:{free_port()}/")
        answer = await posthog.capture("signup")
        assert answer.status_code == 200
        delivery = await outcome(posthog, "failed")
        assert len(delivery["attempts"]) == 3
        assert "ConnectError" in delivery["attempts"][0]["error"]


async def test_a_public_name_is_delivered_on_this_machine() -> None:
    async with receiver() as hook:
        resolve = Resolve.parse(f"hogsend.test=127.0.0.1:{hook.port}")
        async with sandbox(resolve=(resolve,)) as posthog:
            await posthog.create(url="http://hogsend.test:3002/v1/webhooks/posthog")
            await posthog.capture("signup")
            await outcome(posthog, "delivered")
            assert hook.received[0].headers["host"] == "hogsend.test:3002"


@pytest.mark.parametrize(
    "url",
    ["https://t.example.com/", "http://192.168.0.1/", "ftp://127.0.0.1/", "nothing", "http://"],
)
async def test_no_request_leaves_this_machine_by_default(posthog: Driver, url: str) -> None:
    await posthog.create(url=url)
    await posthog.capture("signup")
    assert (await outcome(posthog, "blocked"))["attempts"] == []


@pytest.mark.parametrize(
    "text",
    ["", "host", "host=", "host=1.2.3.4", "host=1.2.3.4:x", "=a:1", "host=a:0", "host=a:65536"],
)
def test_a_resolve_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="HOST=ADDR:PORT"):
        Resolve.parse(text)


def test_the_back_off_grows_and_ends() -> None:
    assert 1 <= delay(1.0, 1) <= 2
    assert 2 <= delay(1.0, 2) <= 3
    assert delay(1.0, 40) == 30


async def test_a_signing_secret_signs_each_attempt(posthog: Driver, hook: Receiver) -> None:
    secret = "whsec_" + base64.b64encode(b"k" * 32).decode()
    await posthog.create(url=hook.url, signing_secret=secret)
    hook.answers = [(503, {})]
    await posthog.capture("signup", "\u00fc")
    await eventually(lambda: len(hook.received) == 1)
    await posthog.advance(10)
    await outcome(posthog, "delivered")
    first, second = hook.received
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    for request in (first, second):
        Webhook(secret).verify(request.content, request.headers, json_parse=False)


@pytest.mark.parametrize("secret", ["not base64!", base64.b64encode(b"k" * 23).decode()])
async def test_with_a_secret_that_cannot_sign_nothing_is_sent(
    posthog: Driver, hook: Receiver, secret: str
) -> None:
    await posthog.create(url=hook.url, signing_secret=secret)
    await posthog.capture("signup")
    assert "signing secret" in (await outcome(posthog, "failed"))["reason"]
    assert hook.received == []


def test_the_signature_is_the_one_of_posthogs_own_test() -> None:
    key = signing_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    made = signed(
        {"Webhook-Id": "stale", "x": "kept"},
        key,
        id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        seconds=1614265330,
        body=b'{"test": 2432232314}',
    )
    assert made == {
        "x": "kept",
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }

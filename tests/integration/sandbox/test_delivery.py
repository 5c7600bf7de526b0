"""Webhooks: payloads, filters, retries and signatures (`nodejs/src/cdp/`, contract 5.3)."""

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


async def wait_for_outcome(posthog: Driver, outcome: str) -> dict[str, Any]:
    """Wait until the only delivery has this outcome; return the delivery."""

    async def matching_delivery() -> dict[str, Any] | None:
        (delivery,) = (await posthog.state())["deliveries"]
        return delivery if delivery["outcome"] == outcome else None

    return await eventually(matching_delivery)


async def test_an_event_is_delivered_with_the_payload_of_posthog(
    posthog: Driver, hook: Receiver
) -> None:
    await posthog.create(url=hook.url)
    properties = {"plan": "pro", "$set": {"email": "a@b.com"}}
    await posthog.capture("signup", "u 1", properties=properties)
    delivery = await wait_for_outcome(posthog, "delivered")
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
    assert [attempt["status"] for attempt in delivery["attempts"]] == [200]


async def test_an_event_without_a_person_profile_is_delivered_with_a_person_id_and_no_properties(
    posthog: Driver, hook: Receiver
) -> None:
    await posthog.create(url=hook.url)
    no_profile = {"$process_person_profile": False, "$set": {"plan": "pro"}}
    await posthog.capture("view", "anon", properties=no_profile)
    await posthog.capture("signup", "u_1", properties={"$set": {"email": "a@b.com"}})
    await posthog.capture("view", "u_1", properties=no_profile)
    await eventually(lambda: len(hook.received) == 3)
    bodies = [request.body for request in hook.received]
    persons = {(body["event"]["event"], body["person"]["name"]): body["person"] for body in bodies}
    assert persons["view", "anon"]["properties"] == persons["view", "u_1"]["properties"] == {}
    assert persons["view", "u_1"]["id"] == persons["signup", "a@b.com"]["id"]
    assert UUID(persons["view", "anon"]["id"]).version == 5
    views = [body["event"] for body in bodies if body["event"]["event"] == "view"]
    assert [event["properties"] for event in views] == [{"$process_person_profile": False}] * 2


async def test_the_large_properties_of_an_ai_event_are_not_delivered(
    posthog: Driver, hook: Receiver
) -> None:
    await posthog.create(url=hook.url)
    large = {"$ai_input": [{"role": "user"}], "$ai_output_choices": [], "$ai_tools": []}
    await posthog.capture("$ai_generation", properties={"$ai_model": "m", **large})
    await posthog.capture("question", properties=large)
    await eventually(lambda: len(hook.received) == 2)
    events = [request.body["event"] for request in hook.received]
    assert {event["event"]: event["properties"] for event in events} == {
        "$ai_generation": {"$ai_model": "m"},
        "question": large,
    }


async def test_the_body_template_is_rendered(posthog: Driver, hook: Receiver) -> None:
    created = await posthog.create(url=hook.url)
    inputs = created["inputs"]
    inputs["url"] = {"value": f"{hook.url}?user={{event.distinct_id}}"}
    inputs["method"] = {"value": "PUT"}
    inputs["body"] = {
        "value": {"mail": "{person.properties.email}", "all": "{person}", "in": "{project.id}"}
    }
    inputs["headers"] = {"value": {"X-Event": "{event.event}!"}}
    address = f"/api/projects/4242/hog_functions/{created['id']}/"
    await posthog.http.patch(address, json={"inputs": inputs}, headers=posthog.key)
    await posthog.capture("signup", properties={"$set": {"email": "a@b.com"}})
    await wait_for_outcome(posthog, "delivered")
    (request,) = hook.received
    assert (request.method, request.path) == ("PUT", "/v1/webhooks/posthog?user=u_1")
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
def test_a_template_is_filled_with_the_values_of_its_paths(template: Any, filled: Any) -> None:
    assert render(template, {"a": {"b": [1], "c": "text"}}) == filled


async def test_only_identified_events_pass_the_identified_filter(
    posthog: Driver, hook: Receiver
) -> None:
    await posthog.create(url=hook.url, filters={"source": "events", "properties": [IDENTIFIED]})
    # A server SDK does not send the property, even for an identified person.
    await posthog.capture("$identify", "u_1")
    await posthog.capture("plain", "u_1")
    await posthog.capture("not yet", "u_1", properties={"$is_identified": False})
    await posthog.capture("as boolean", "u_1", properties={"$is_identified": True})
    await posthog.capture("as text", "u_1", properties={"$is_identified": "true"})
    await eventually(lambda: len(hook.received) == 2)
    names = {request.body["event"]["event"] for request in hook.received}
    assert names == {"as boolean", "as text"}
    outcomes = [delivery["outcome"] for delivery in (await posthog.state())["deliveries"]]
    assert outcomes.count("filtered") == 3


async def test_only_events_that_match_a_filter_are_delivered(
    posthog: Driver, hook: Receiver
) -> None:
    events = [
        {"id": "signup", "type": "events"},
        {"id": "paid", "properties": [{"key": "amount", "value": 10, "operator": "gt"}]},
    ]
    person = [{"key": "email", "type": "person", "operator": "is_set"}]
    await posthog.create(url=hook.url, filters={"events": events, "properties": person})
    for name, amount in (("signup", 0), ("paid", 5), ("paid", 50), ("viewed", 50)):
        await posthog.capture(name, "without-email", properties={"amount": amount})
        set_email = {"email": "a@b.com"}
        await posthog.capture(name, "u_1", properties={"amount": amount, "$set": set_email})
    await eventually(lambda: len(hook.received) == 2)
    delivered = [request.body["event"] for request in hook.received]
    assert {(event["event"], event["properties"]["amount"]) for event in delivered} == {
        ("signup", 0),
        ("paid", 50),
    }


@pytest.mark.parametrize(
    ("operator", "expected", "actual", "matches"),
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
def test_an_operator_compares_a_property_with_the_filters_value(
    operator: str, expected: Any, actual: Any, matches: bool
) -> None:
    condition = PropertyFilter("key", expected, operator)
    assert holds(condition, {} if actual is None else {"key": actual}, {}) is matches


async def test_an_unknown_operator_blocks_the_delivery_with_a_reason(
    posthog: Driver, hook: Receiver
) -> None:
    unknown = {"key": "a", "value": "b", "operator": "is_date_before"}
    await posthog.create(url=hook.url, filters={"properties": [unknown]})
    assert (await posthog.capture("signup")).status_code == 200
    assert "is_date_before" in (await wait_for_outcome(posthog, "blocked"))["reason"]


async def test_a_delivery_that_cannot_be_sent_fails_and_capture_succeeds(
    posthog: Driver, hook: Receiver
) -> None:
    created = await posthog.create(url=hook.url)
    inputs = created["inputs"] | {"headers": {"value": {"X-Name": "{event.properties.name}"}}}
    address = f"/api/projects/4242/hog_functions/{created['id']}/"
    await posthog.http.patch(address, json={"inputs": inputs}, headers=posthog.key)
    response = await posthog.capture("signup", properties={"name": "Ælfred\r\nX: y"})
    assert response.status_code == 200
    await wait_for_outcome(posthog, "retrying")
    await posthog.advance(3)
    await eventually(lambda: len(posthog.instance.deliveries.all[0].attempts) == 2)
    await posthog.advance(4)
    assert (await wait_for_outcome(posthog, "failed"))["reason"]
    assert hook.received == []


async def test_a_disabled_function_receives_no_events(posthog: Driver, hook: Receiver) -> None:
    await posthog.create(url=hook.url, enabled=False)
    await posthog.capture("signup")
    assert (await posthog.state())["deliveries"] == []


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
async def test_a_delivery_is_retried_after_a_server_error_until_it_succeeds(
    hook: Receiver, status: int
) -> None:
    async with sandbox(backoff_seconds=0.0) as posthog:
        await posthog.create(url=hook.url)
        hook.responses = [(status, {}), (status, {})]
        await posthog.capture("signup")
        delivery = await wait_for_outcome(posthog, "delivered")
        assert [attempt["status"] for attempt in delivery["attempts"]] == [status, status, 200]


async def test_a_delivery_fails_after_three_attempts(hook: Receiver) -> None:
    async with sandbox(backoff_seconds=0.0) as posthog:
        await posthog.create(url=hook.url)
        hook.responses = [(503, {})] * 4
        await posthog.capture("signup")
        assert len((await wait_for_outcome(posthog, "failed"))["attempts"]) == 3
        assert len(hook.received) == 3


@pytest.mark.parametrize("status", [301, 400, 401, 404, 413, 501])
async def test_a_delivery_is_not_retried_after_another_status(hook: Receiver, status: int) -> None:
    async with sandbox(backoff_seconds=0.0) as posthog:
        await posthog.create(url=hook.url)
        hook.responses = [(status, {})]
        await posthog.capture("signup")
        assert len((await wait_for_outcome(posthog, "failed"))["attempts"]) == 1


async def test_a_delivery_is_retried_after_a_rate_limit_without_waiting_for_retry_after(
    hook: Receiver,
) -> None:
    """PostHog ignores `Retry-After` (nodejs/src/cdp, hog-executor-async.service.ts)."""
    async with sandbox(backoff_seconds=0.0) as posthog:
        await posthog.create(url=hook.url)
        hook.responses = [(429, {"Retry-After": "200"})] * 9
        await posthog.capture("signup")
        assert len((await wait_for_outcome(posthog, "failed"))["attempts"]) == 3


async def test_a_request_is_repeated_at_once_after_a_dropped_connection(
    posthog: Driver, hook: Receiver
) -> None:
    await posthog.create(url=hook.url)
    hook.drop = 1
    await posthog.capture("signup")
    assert len((await wait_for_outcome(posthog, "delivered"))["attempts"]) == 1
    assert len(hook.received) == 2


async def test_a_delivery_does_not_wait_for_pending_responses_of_others(
    posthog: Driver, hook: Receiver
) -> None:
    await posthog.create(url=hook.url)
    hook.may_respond.clear()
    # More than the default connection limit of httpx, which is 100.
    for _ in range(120):
        await posthog.capture("signup")
    await eventually(lambda: len(hook.received) == 120)
    hook.may_respond.set()

    async def are_delivered() -> bool:
        deliveries = (await posthog.state())["deliveries"]
        return {delivery["outcome"] for delivery in deliveries} == {"delivered"}

    await eventually(are_delivered)
    deliveries = (await posthog.state())["deliveries"]
    assert {len(delivery["attempts"]) for delivery in deliveries} == {1}


async def test_a_delivery_to_an_unreachable_receiver_fails_after_three_attempts() -> None:
    async with sandbox(backoff_seconds=0.0) as posthog:
        await posthog.create(url=f"http://127.0.0.1:{free_port()}/")
        response = await posthog.capture("signup")
        assert response.status_code == 200
        delivery = await wait_for_outcome(posthog, "failed")
        assert len(delivery["attempts"]) == 3
        assert "ConnectError" in delivery["attempts"][0]["error"]


async def test_a_public_name_is_resolved_to_the_address_of_the_option_resolve() -> None:
    async with receiver() as hook:
        resolve = Resolve.parse(f"hogsend.test=127.0.0.1:{hook.port}")
        async with sandbox(resolve=(resolve,)) as posthog:
            await posthog.create(url="http://hogsend.test:3002/v1/webhooks/posthog")
            await posthog.capture("signup")
            await wait_for_outcome(posthog, "delivered")
            assert hook.received[0].headers["host"] == "hogsend.test:3002"


@pytest.mark.parametrize(
    "url",
    ["https://t.example.com/", "http://192.168.0.1/", "ftp://127.0.0.1/", "nothing", "http://"],
)
async def test_a_delivery_to_another_machine_is_blocked_by_default(
    posthog: Driver, url: str
) -> None:
    await posthog.create(url=url)
    await posthog.capture("signup")
    assert (await wait_for_outcome(posthog, "blocked"))["attempts"] == []


@pytest.mark.parametrize(
    "text",
    ["", "host", "host=", "host=1.2.3.4", "host=1.2.3.4:x", "=a:1", "host=a:0", "host=a:65536"],
)
def test_a_malformed_resolve_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="HOST=ADDR:PORT"):
        Resolve.parse(text)


def test_the_delay_between_attempts_grows_up_to_thirty_seconds() -> None:
    assert 1 <= delay(1.0, 1) <= 2
    assert 2 <= delay(1.0, 2) <= 3
    assert delay(1.0, 40) == 30


async def test_each_attempt_is_signed_with_the_signing_secret(
    posthog: Driver, hook: Receiver
) -> None:
    secret = "whsec_" + base64.b64encode(b"k" * 32).decode()
    await posthog.create(url=hook.url, signing_secret=secret)
    hook.responses = [(503, {})]
    await posthog.capture("signup", "\u00fc")
    await eventually(lambda: len(hook.received) == 1)
    await posthog.advance(10)
    await wait_for_outcome(posthog, "delivered")
    first, second = hook.received
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    for request in (first, second):
        Webhook(secret).verify(request.content, request.headers, json_parse=False)


async def test_secret_headers_are_sent_and_replace_headers_of_the_same_name(
    posthog: Driver, hook: Receiver
) -> None:
    secret_headers = {"X-PostHog-Webhook-Secret": "other", "x-user": "{event.distinct_id}"}
    created = await posthog.create(url=hook.url, secret_headers=secret_headers)
    assert created["inputs"]["secret_headers"] == {"secret": True}
    await posthog.capture("signup", "u_42")
    await wait_for_outcome(posthog, "delivered")
    (request,) = hook.received
    assert request.headers["x-posthog-webhook-secret"] == "other"
    assert request.headers["x-user"] == "u_42"
    assert request.headers["content-type"] == "application/json"


@pytest.mark.parametrize("secret", ["not base64!", base64.b64encode(b"k" * 23).decode()])
async def test_a_delivery_fails_unsent_when_the_signing_secret_is_invalid(
    posthog: Driver, hook: Receiver, secret: str
) -> None:
    await posthog.create(url=hook.url, signing_secret=secret)
    await posthog.capture("signup")
    assert "signing secret" in (await wait_for_outcome(posthog, "failed"))["reason"]
    assert hook.received == []


def test_the_signature_equals_the_one_in_the_test_of_posthog() -> None:
    key = signing_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = signed(
        {"Webhook-Id": "stale", "x": "kept"},
        key,
        id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        seconds=1614265330,
        body=b'{"test": 2432232314}',
    )
    assert headers == {
        "x": "kept",
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }

"""Request bodies: malformed JSON, JSON of another shape, and repaired JSON (correction C10)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hogsend.contract import subjects
from hogsend.contract.destinations import ANALYTICS_CREATE_DESTINATION, CreateDestination
from hogsend.contract.events import INGEST_RECORD, Recorded, RecordEvent
from hogsend.contract.json_text import MAX_DEPTH, is_too_deep, repaired_json
from services.gateway.json_body import InvalidBodyError, decode_json
from tests.unit.gateway.fakes import INGEST_KEY, SECRET, FakeGateway, bearer

DESTINATION = "/v1/admin/webhooks/11111111-1111-1111-1111-111111111111"
ROUTES = (
    ("PUT", "/v1/admin/provider-credentials/posthog"),
    ("POST", "/v1/events"),
    ("POST", "/v1/admin/webhooks"),
    ("PATCH", DESTINATION),
    ("POST", "/v1/admin/deadletters/replay"),
    ("POST", "/v1/admin/deadletters/purge"),
    ("POST", "/v1/webhooks/posthog"),
)
NOT_JSON = (
    b"",
    b"{x}",
    b"{",
    b'{"event": "\xff"}',
    b'{"event": NaN}',
    b'{"event": {"event": "e", "distinct_id": "u"}} x',
)
OTHER_JSON = (
    *(b"[]", b"null", b"3", b'"x"', b"[[[]]]"),
    b'{"event": 1e999, "userId": "u", "url": 1, "payload": 1}',
    b'{"event": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
)


async def send(gateway: FakeGateway, route: tuple[str, str], body: bytes) -> tuple[int, str]:
    headers = {**bearer(), "Content-Type": "application/json", "x-posthog-webhook-secret": SECRET}
    response = await gateway.http.request(*route, content=body, headers=headers)
    return response.status_code, response.text


@pytest.mark.parametrize("route", ROUTES, ids=" ".join)
async def test_only_a_body_that_is_not_json_is_called_malformed(
    gateway: FakeGateway, route: tuple[str, str]
) -> None:
    for body in NOT_JSON:
        status, text = await send(gateway, route, body)
        assert (status, "Malformed JSON" in text) == (400, True), body
    for body in OTHER_JSON:
        status, text = await send(gateway, route, body)
        assert (status, "Malformed" in text) == (400, False), body[:40]
    assert gateway.bus.sent == []
    assert {message.subject for message in gateway.bus.published.messages} <= {subjects.AUDIT}


@pytest.mark.parametrize("received", [[], [b'{"event"']], ids=["nothing", "a part"])
@pytest.mark.parametrize("route", [*ROUTES, ("POST", "/v1/flags/evaluate")], ids=" ".join)
async def test_an_incomplete_body_is_a_bad_request(
    gateway: FakeGateway, route: tuple[str, str], received: list[bytes]
) -> None:
    pieces = [{"type": "http.request", "body": piece, "more_body": True} for piece in received]
    # The server reports malformed chunks as a disconnect too, and then sends the response.
    messages = iter([*pieces, {"type": "http.disconnect"}])
    responses: list[Any] = []

    async def receive() -> Any:
        return next(messages)

    async def send_response(message: Any) -> None:
        responses.append(message)

    headers = {**bearer(), "host": "x", "x-posthog-webhook-secret": SECRET}
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": route[0],
        "path": route[1],
        "query_string": b"",
        "client": None,
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
    }
    await gateway.app(scope, receive, send_response)
    assert responses[0]["status"] == 400
    assert b"incomplete" in responses[1]["body"]
    assert gateway.bus.sent == []
    assert {message.subject for message in gateway.bus.published.messages} <= {subjects.AUDIT}


@pytest.mark.parametrize(
    ("route", "body", "path"),
    [
        (ROUTES[0], {}, ["payload"]),
        (ROUTES[0], {"payload": {"accessToken": "a"}}, ["payload", "refreshToken"]),
        (ROUTES[2], {"url": "https://a.example"}, ["eventTypes"]),
    ],
)
async def test_a_missing_field_is_a_schema_error_with_the_path_of_the_field(
    gateway: FakeGateway, route: tuple[str, str], body: dict[str, object], path: list[str]
) -> None:
    status, text = await send(gateway, route, json.dumps(body).encode())
    assert status == 400
    assert json.loads(text)["success"] is False
    issues = json.loads(json.loads(text)["error"]["message"])
    assert issues == [{"message": "Required", "path": path, "code": "invalid_type"}]


async def test_a_lone_surrogate_is_replaced_in_events_and_in_admin_requests(
    gateway: FakeGateway,
) -> None:
    gateway.bus.reply_with(INGEST_RECORD, Recorded(id="1", stored=True, contact_key="u"))
    body = rb'{"event": "cut \ud83d", "userId": "u", "properties": {"\udc00": ["\ud83d\ude00"]}}'
    response = await gateway.http.post("/v1/events", content=body, headers=bearer(INGEST_KEY))
    assert response.status_code == 202
    event = gateway.bus.sent[0].message
    assert isinstance(event, RecordEvent)
    assert event.event == "cut \ufffd"
    assert event.properties == {"\ufffd": ["\U0001f600"]}
    new = rb'{"url": "posthog://capture", "eventTypes": ["email.sent"], "description": "\uDe00"}'
    await send(gateway, ("POST", "/v1/admin/webhooks"), new)
    creation = gateway.bus.sent[1]
    assert creation.subject == ANALYTICS_CREATE_DESTINATION.subject
    assert isinstance(creation.message, CreateDestination)
    assert creation.message.description == "\ufffd"


async def test_too_many_numbers_with_large_exponents_are_400(gateway: FakeGateway) -> None:
    many = b'{"event": "e", "userId": "u", "properties": {"a": [1e308%b]}}' % (b",1e308" * 10_000)
    status, text = await send(gateway, ROUTES[1], many)
    assert (status, "too many numbers with large exponents" in text) == (400, True)
    assert gateway.bus.sent == []


async def test_memory_of_a_decoded_body_is_reserved_until_the_response_and_limited(
    gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserved: list[int] = []

    async def record(*_request: object) -> Recorded:
        reserved.append(gateway.memory.reserved_bytes)
        return Recorded(id="1", stored=True, contact_key="u")

    monkeypatch.setattr(gateway.bus, "request", record)
    body = b'{"event": "e", "userId": "u", "properties": {"a": [[]%b]}}'
    some, too_many = body % (b",[]" * 100_000), body % (b",[[[[]]]]" * 450_000)
    assert (await send(gateway, ROUTES[1], some))[0] == 202
    assert reserved[0] > 40 * len(some)
    status, text = await send(gateway, ROUTES[1], too_many)
    assert (status, "MiB" in json.loads(text)["error"]) == (413, True)
    assert len(reserved) == 1
    assert gateway.memory.reserved_bytes == 0


async def test_a_byte_order_mark_before_json_is_ignored(gateway: FakeGateway) -> None:
    gateway.bus.reply_with(INGEST_RECORD, Recorded(id="1", stored=True, contact_key="u"))
    mark = b"\xef\xbb\xbf"
    status, text = await send(gateway, ROUTES[1], mark + b'{"event": "e", "userId": "u"}')
    assert (status, json.loads(text)["stored"]) == (202, True)
    delivery = b'{"event": {"event": "e", "distinct_id": "u"}}'
    status, _ = await send(gateway, ROUTES[6], mark + delivery)
    assert status == 200
    queued = [message.body for message in gateway.bus.published.messages]
    assert delivery in queued


@pytest.mark.parametrize(
    ("body", "repaired"),
    [
        (rb'"\ud83d"', "\ufffd"),
        (rb'"\uDE00x"', "\ufffdx"),
        (rb'"\ud83d\ud83d\ude00"', "\ufffd\U0001f600"),
        (rb'"\ud83d\u0041"', "\ufffdA"),
        # An escaped backslash before `ud83d`, which is text.
        (rb'"\\ud83d"', r"\ud83d"),
        (rb'"\\\ud83d"', "\\\ufffd"),
        (rb'"\ud7ff\ue000"', "\ud7ff\ue000"),
    ],
)
def test_only_lone_surrogates_are_replaced(body: bytes, repaired: str) -> None:
    assert json.loads(repaired_json(body)) == repaired


def test_numbers_in_a_repaired_body_stay_unchanged() -> None:
    assert repaired_json(rb'["\ud83d", 1e400, 1.10]') == rb'["\ufffd", 1e400, 1.10]'


@pytest.mark.parametrize(
    ("route", "body", "path"),
    [
        (ROUTES[5], {"stream": "WEBHOOKS", "all": 0}, ["all"]),
        (ROUTES[5], {"all": "1"}, ["all"]),
        (ROUTES[4], {"all": 1}, ["all"]),
        (ROUTES[4], {"sequence": "7"}, ["sequence"]),
        (ROUTES[2], {"url": "a:b", "eventTypes": ["email.sent"], "disabled": 0}, ["disabled"]),
        (ROUTES[3], {"disabled": "true"}, ["disabled"]),
        (ROUTES[1], {"event": "e", "userId": "u", "value": "1"}, ["value"]),
    ],
)
async def test_a_value_of_another_type_is_400_and_not_converted(
    gateway: FakeGateway, route: tuple[str, str], body: dict[str, object], path: list[str]
) -> None:
    status, text = await send(gateway, route, json.dumps(body).encode())
    assert status == 400
    assert json.loads(json.loads(text)["error"]["message"])[0]["path"] == path
    assert gateway.bus.sent == []


def nested(depth: int, kind: bytes = b"[") -> bytes:
    opening, closing = {b"[": (b"[", b"]"), b"{": (b'{"a":', b"}")}[kind]
    return opening * depth + b"1" + closing * depth


@pytest.mark.parametrize(
    ("body", "too_deep"),
    [
        pytest.param(nested(MAX_DEPTH), False, id="at the limit"),
        pytest.param(nested(MAX_DEPTH + 1), True, id="arrays"),
        pytest.param(nested(MAX_DEPTH + 1, b"{"), True, id="objects"),
        pytest.param(b"[" + nested(MAX_DEPTH, b"{") + b"]", True, id="both"),
        pytest.param(b"[" + b"[[1]]," * MAX_DEPTH + b"1]", False, id="many siblings"),
        pytest.param(b'["' + b"[" * 2 * MAX_DEPTH + b'"]', False, id="in a string"),
        pytest.param(rb'["\"' + b"[" * 2 * MAX_DEPTH + b'"]', False, id="after an escaped quote"),
        pytest.param(
            rb'["\\",' + nested(MAX_DEPTH) + b"]",
            True,
            id="after a string that ends with a backslash",
        ),
        pytest.param(
            rb'["\\\"' + b"[" * 2 * MAX_DEPTH + b'"]', False, id="after a backslash and a quote"
        ),
        pytest.param(b'["["' + b',"","["' * MAX_DEPTH + b"]", False, id="between empty strings"),
        pytest.param(b'["[","",' + nested(MAX_DEPTH) + b"]", True, id="after an empty string"),
        pytest.param(b"", False, id="empty body"),
        pytest.param(b"]" * 1000 + b"[" * 501, False, id="closed before opened"),
        pytest.param(b'"' * 1001 + b"[" * 501, False, id="in an unterminated string"),
    ],
)
def test_the_nesting_depth_counts_brackets_outside_of_strings_only(
    body: bytes, too_deep: bool
) -> None:
    assert is_too_deep(body) == too_deep


@pytest.mark.parametrize("kind", [b"[", b"{"])
@pytest.mark.parametrize(
    ("route", "content"),
    [
        (ROUTES[1], b'{"event":"e","userId":"u","properties":{"x":%s}}'),
        (ROUTES[6], b'{"event":{"event":"e","distinct_id":"u"},"unread":%s}'),
    ],
)
async def test_a_body_nested_too_deeply_for_the_services_is_400(
    gateway: FakeGateway, route: tuple[str, str], content: bytes, kind: bytes
) -> None:
    status, response = await send(gateway, route, content % nested(MAX_DEPTH, kind))
    assert status == 400
    assert "nested too deeply" in response


def test_a_number_with_more_digits_than_python_parses_is_out_of_range() -> None:
    with pytest.raises(InvalidBodyError, match="out of range"):
        decode_json(b'{"x":' + b"9" * 5000 + b"}", dict[str, object])

"""The OpenAPI document: names that a client generator and its users can live with."""

from __future__ import annotations

import json
import re
from typing import Any
from unittest.mock import Mock

import pytest
from jsonschema import Draft202012Validator
from litestar import Litestar
from litestar.routes import HTTPRoute
from litestar.serialization import encode_json

from hogsend.service.settings.shared import PostHogSettings, PublicUrlSettings
from services.gateway.api import build
from services.gateway.auth import admin_only, admin_or_reader, reporters_only
from services.gateway.examples import examples
from services.gateway.settings import GatewaySettings
from tests.unit.gateway.fakes import INGEST_KEY, SECRET, FakeGateway, bearer

ERROR_SCHEMAS = {
    "ErrorBody",
    "TypedErrorBody",
    "RefusalBody",
    "ValidationBody",
    "InvalidPayloadBody",
    "Readiness",
}


@pytest.fixture(scope="module")
def app() -> Litestar:
    parts = Mock(settings=GatewaySettings(), posthog=PostHogSettings())
    return build(parts, PublicUrlSettings())


@pytest.fixture(scope="module")
def document(app: Litestar) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(encode_json(app.openapi_schema.to_schema()))
    return found


def operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for path in document["paths"].values() for operation in path.values()]


def test_a_route_takes_the_keys_that_the_document_names(
    app: Litestar, document: dict[str, Any]
) -> None:
    beside_the_admin_key = {
        admin_only: set[str](),
        admin_or_reader: {"readKey"},
        reporters_only: {"ingestKey"},
    }
    compared = 0
    for route in app.routes:
        if route.path_format not in document["paths"] or not isinstance(route, HTTPRoute):
            continue
        for handler in route.route_handlers:
            guards = beside_the_admin_key.keys() & set(handler.guards or ())
            for method in handler.http_methods if guards else ():
                if (operation := document["paths"][route.path_format].get(method.lower())) is None:
                    continue
                (guard,) = guards
                named = {name for one in operation["security"] for name in one}
                wanted = {"adminKey"} | beside_the_admin_key[guard]
                assert named == wanted, f"{method} {route.path_format}"
                compared += 1
    assert compared > 40


def test_every_route_is_in_the_document(document: dict[str, Any]) -> None:
    assert {
        "/v1/webhooks/posthog",
        "/v1/admin/provider-credentials/{provider}",
        "/v1/admin/analytics/connect-info",
        "/v1/admin/events",
        "/v1/admin/deadletters",
        "/v1/admin/deadletters/{sequence}",
        "/v1/admin/deadletters/{sequence}/replay",
        "/v1/admin/deadletters/replay",
        "/v1/admin/deadletters/purge",
        "/v1/health",
    } <= set(document["paths"])


def test_every_operation_has_an_id_that_is_a_verb_and_its_object(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for operation in operations(document)]
    assert len(set(ids)) == len(ids)
    # Litestar's own ids begin with the path: `V1AdminEventsListEvents`.
    assert [id for id in ids if not re.fullmatch(r"[a-z]+([A-Z][a-z]+)+", id)] == []


def test_every_operation_has_a_tag_and_a_sentence(document: dict[str, Any]) -> None:
    for operation in operations(document):
        assert len(operation["tags"]) == 1
        assert " " in operation["summary"]
        assert operation["description"]


def test_every_schema_is_named_by_one_class(document: dict[str, Any]) -> None:
    # Two classes of one name would be `services_gateway_routes_health_Credential` and the like,
    # a generic one `Page[StoredEvent]`.
    names = document["components"]["schemas"]
    assert [name for name in names if not re.fullmatch(r"([A-Z]+[a-z]+)+", name)] == []


def test_every_error_is_one_of_our_bodies(document: dict[str, Any]) -> None:
    for operation in operations(document):
        for status, answer in operation["responses"].items():
            if status.startswith("2"):
                continue
            schema = answer["content"]["application/json"]["schema"]
            named = {one["$ref"].rsplit("/", 1)[1] for one in schema.get("oneOf", [schema])}
            assert named <= ERROR_SCHEMAS, operation["operationId"]


def test_every_body_has_an_example_that_its_schema_allows(document: dict[str, Any]) -> None:
    components = {"components": document["components"]}
    for operation in operations(document):
        bodies = {"request": operation["requestBody"]} if "requestBody" in operation else {}
        for status, body in (bodies | operation["responses"]).items():
            described = body["content"].get("application/json")
            if described is None:
                continue
            where = f"{operation['operationId']} {status}"
            assert described.get("examples"), where
            schema = described["schema"] | components
            for name, example in described["examples"].items():
                problems = [
                    one.message
                    for one in Draft202012Validator(schema).iter_errors(example["value"])
                ]
                assert problems == [], f"{where} {name}"


OURS = {"x-request-id", "retry-after", "x-ratelimit-limit", "x-ratelimit-remaining"}


@pytest.mark.parametrize(
    ("request_line", "headers", "status"),
    [
        ("GET /livez", {}, 200),
        ("GET /readyz", {}, 200),
        ("GET /metrics", bearer(), 200),
        ("GET /v1/admin/events", bearer(), 503),
        ("GET /v1/admin/events", bearer("wrong"), 401),
        ("GET /v1/admin/events", bearer(INGEST_KEY), 403),
        ("POST /v1/admin/backfills", bearer(), 400),
        ("POST /v1/events", bearer(), 400),
        ("PUT /v1/contacts", bearer("wrong"), 401),
        ("POST /v1/webhooks/posthog", {}, 401),
        ("POST /v1/webhooks/posthog", {"x-posthog-webhook-secret": SECRET}, 400),
    ],
)
async def test_an_answer_has_the_headers_that_the_document_describes(
    gateway: FakeGateway,
    document: dict[str, Any],
    request_line: str,
    headers: dict[str, str],
    status: int,
) -> None:
    method, path = request_line.split()
    answer = await gateway.http.request(method, path, headers=headers, json={})
    assert answer.status_code == status
    described = document["paths"][path][method.lower()]["responses"][str(status)]["headers"]
    assert {name.lower() for name in described} == OURS & set(answer.headers)
    assert {header["$ref"] for header in described.values()} == {
        f"#/components/headers/{name}" for name in described
    }
    assert described.keys() <= document["components"]["headers"].keys()


def test_a_refusal_for_a_while_says_how_long(document: dict[str, Any]) -> None:
    without = [
        (operation["operationId"], status)
        for operation in operations(document)
        for status, response in operation["responses"].items()
        if status in {"429", "503"} and "Retry-After" not in response["headers"]
    ]
    # A probe comes again by itself.
    assert without == [("getReadiness", "503")]


def test_every_example_belongs_to_a_body(document: dict[str, Any]) -> None:
    assert set(examples()) <= {operation["operationId"] for operation in operations(document)}

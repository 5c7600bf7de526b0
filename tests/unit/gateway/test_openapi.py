"""The OpenAPI document: names, security, errors and examples as client generators need them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import msgspec
import pytest
from jsonschema import Draft202012Validator
from litestar import Litestar
from litestar.routes import HTTPRoute
from litestar.serialization import encode_json

from hogsend.contract import field_docs
from hogsend.contract.field_docs import describe, describe_fields
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


def gateway_app() -> Litestar:
    parts = Mock(settings=GatewaySettings(), posthog=PostHogSettings())
    return build(parts, PublicUrlSettings())


def document_of(app: Litestar) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(encode_json(app.openapi_schema.to_schema()))
    return document


@pytest.fixture(scope="module")
def app() -> Litestar:
    return gateway_app()


@pytest.fixture(scope="module")
def document(app: Litestar) -> dict[str, Any]:
    return document_of(app)


def operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for path in document["paths"].values() for operation in path.values()]


def test_a_route_accepts_the_keys_that_the_document_lists(
    app: Litestar, document: dict[str, Any]
) -> None:
    further_keys = {
        admin_only: set[str](),
        admin_or_reader: {"readKey"},
        reporters_only: {"ingestKey"},
    }
    compared = 0
    for route in app.routes:
        if route.path_format not in document["paths"] or not isinstance(route, HTTPRoute):
            continue
        for handler in route.route_handlers:
            guards = further_keys.keys() & set(handler.guards or ())
            for method in handler.http_methods if guards else ():
                if (operation := document["paths"][route.path_format].get(method.lower())) is None:
                    continue
                (guard,) = guards
                documented = {name for scheme in operation["security"] for name in scheme}
                accepted = {"adminKey"} | further_keys[guard]
                assert documented == accepted, f"{method} {route.path_format}"
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


def test_every_operation_has_a_tag_a_summary_and_a_description(document: dict[str, Any]) -> None:
    for operation in operations(document):
        assert len(operation["tags"]) == 1
        assert " " in operation["summary"]
        assert operation["description"]


def test_every_schema_has_the_name_of_exactly_one_class(document: dict[str, Any]) -> None:
    # Two classes of one name would be `services_gateway_routes_health_Credential` and the like,
    # a generic one `Page[StoredEvent]`.
    names = document["components"]["schemas"]
    assert [name for name in names if not re.fullmatch(r"([A-Z]+[a-z]+)+", name)] == []


def test_a_body_that_refuses_unknown_fields_allows_no_additional_properties(
    document: dict[str, Any],
) -> None:
    schemas = document["components"]["schemas"]
    closed = {name for name, schema in schemas.items() if not schema.get("additionalProperties", 1)}
    assert closed == {"DeadLetterSelection", "DestinationChanges", "EventReplay", "NewBackfill"}


def test_constraints_are_in_the_member_of_a_union_that_they_constrain(
    document: dict[str, Any],
) -> None:
    constraints = {"minLength", "maxLength", "pattern", "format", "minimum", "maximum"}
    unions = list(unions_of(document))
    assert len(unions) > 100
    assert [union for union in unions if not constraints.isdisjoint(union)] == []
    assert [union for union in unions if len(union["oneOf"]) == 1] == []
    event = document["components"]["schemas"]["ReportedEvent"]["properties"]
    text, null = event["userId"]["oneOf"]
    assert (text["maxLength"], text["pattern"], null) == (200, r"\S", {"type": "null"})
    assert event["event"]["type"] == "string"
    assert event["event"]["maxLength"] == 200


def unions_of(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, list):
        for item in node:
            yield from unions_of(item)
    elif isinstance(node, dict):
        if isinstance(node.get("oneOf"), list):
            yield node
        for value in node.values():
            yield from unions_of(value)


def test_every_error_response_has_one_of_the_error_schemas(document: dict[str, Any]) -> None:
    for operation in operations(document):
        for status, response in operation["responses"].items():
            if status.startswith("2"):
                continue
            schema = response["content"]["application/json"]["schema"]
            documented = {
                error["$ref"].rsplit("/", 1)[1] for error in schema.get("oneOf", [schema])
            }
            assert documented <= ERROR_SCHEMAS, operation["operationId"]


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
                    problem.message
                    for problem in Draft202012Validator(schema).iter_errors(example["value"])
                ]
                assert problems == [], f"{where} {name}"


DESCRIBED = {"x-request-id", "retry-after", "x-ratelimit-limit", "x-ratelimit-remaining"}


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
async def test_a_response_has_the_headers_that_the_document_describes(
    gateway: FakeGateway,
    document: dict[str, Any],
    request_line: str,
    headers: dict[str, str],
    status: int,
) -> None:
    method, path = request_line.split()
    response = await gateway.http.request(method, path, headers=headers, json={})
    assert response.status_code == status
    described = document["paths"][path][method.lower()]["responses"][str(status)]["headers"]
    assert {name.lower() for name in described} == DESCRIBED & set(response.headers)
    assert {header["$ref"] for header in described.values()} == {
        f"#/components/headers/{name}" for name in described
    }
    assert described.keys() <= document["components"]["headers"].keys()


def test_every_429_and_503_documents_a_retry_after_header(document: dict[str, Any]) -> None:
    without = [
        (operation["operationId"], status)
        for operation in operations(document)
        for status, response in operation["responses"].items()
        if status in {"429", "503"} and "Retry-After" not in response["headers"]
    ]
    # A readiness probe repeats by itself.
    assert without == [("getReadiness", "503")]


def test_every_example_belongs_to_a_body(document: dict[str, Any]) -> None:
    assert set(examples()) <= {operation["operationId"] for operation in operations(document)}


def structs() -> dict[str, type[msgspec.Struct]]:
    """The Structs of the library and of the gateway, by name."""
    every: list[type[msgspec.Struct]] = [msgspec.Struct]
    for struct in every:
        every += struct.__subclasses__()
    packages = ("hogsend.", "services.gateway.")
    return {struct.__name__: struct for struct in every if struct.__module__.startswith(packages)}


def schemas_of_structs(document: dict[str, Any]) -> Iterator[tuple[type[msgspec.Struct], Any]]:
    by_name = structs()
    for name, schema in document["components"]["schemas"].items():
        yield by_name[name], schema


def test_the_docstrings_of_structs_and_fields_are_descriptions(document: dict[str, Any]) -> None:
    documented = 0
    for struct, schema in schemas_of_structs(document):
        assert schema["description"] == describe(struct)
        for name, text in describe_fields(struct).items():
            assert schema["properties"][name]["description"] == text, f"{struct.__name__} {name}"
            documented += 1
    assert documented > 150


def test_a_field_of_each_kind_is_described(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]

    def description(schema: str, field: str) -> str:
        text: str = schemas[schema]["properties"][field]["description"]
        return text

    # A Struct of the contract, with a name in camelCase.
    assert description("ContactRecord", "externalId") == "The contact's first user id."
    # The same field of a Struct of the gateway that inherits it.
    assert description("ListedContact", "externalId") == "The contact's first user id."
    # A field that may be null, and one whose type has a description too.
    assert "null on the last page" in description("EventPage", "nextBefore")
    assert description("ReportedContact", "anonymousId").startswith("Ignored.")
    # A field whose schema is a `$ref`, next to which the description stands.
    assert "$ref" in schemas["EventWay"]["properties"]["announcement"]
    assert description("EventWay", "announcement").startswith("The message on `hogsend.events")


def test_descriptions_name_fields_as_in_json(document: dict[str, Any]) -> None:
    in_json = {name for struct in structs().values() for name in struct.__struct_encode_fields__}
    in_python = {name for struct in structs().values() for name in struct.__struct_fields__}
    descriptions = [
        described["description"]
        for schema in document["components"]["schemas"].values()
        for described in (schema, *schema.get("properties", {}).values())
        if "description" in described
    ]
    named = {name for text in descriptions for name in re.findall(r"`(\w+)`", text)}
    # `needs_reconnect` is the name of a field, and a value of another one.
    assert named & in_python - in_json == {"needs_reconnect", "personal_key"}
    assert named >= {"receivedAt", "userId", "bounceRate30d"}


def test_without_source_files_the_document_describes_no_fields(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read_bytes = Path.read_bytes

    def read_no_source(path: Path) -> bytes:
        if path.suffix == ".py":
            raise PermissionError
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", read_no_source)
    monkeypatch.setattr(field_docs, "_docstrings_in", field_docs._docstrings_in.__wrapped__)
    schema = document_of(gateway_app())["components"]["schemas"]["EventPage"]
    assert schema["description"]
    assert {name for name, field in schema["properties"].items() if "description" in field} == set()


def test_no_source_file_is_read_when_the_gateway_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = Mock()
    monkeypatch.setattr(field_docs, "_docstrings_in", reads)
    gateway_app()
    reads.assert_not_called()


def test_every_parameter_is_described(document: dict[str, Any]) -> None:
    undescribed = [
        (operation["operationId"], parameter["name"])
        for operation in operations(document)
        for parameter in operation.get("parameters", ())
        if not parameter.get("description")
    ]
    assert undescribed == []

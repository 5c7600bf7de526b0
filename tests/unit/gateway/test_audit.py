"""The audit trail: which admin requests are recorded, and with which fields."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote
from uuid import UUID

import httpx
import msgspec
import pytest
from structlog.testing import capture_logs

from hogsend.contract import subjects
from hogsend.contract.audit import AuditEntry
from hogsend.contract.credentials import CREDENTIALS_DELETE, Deleted
from hogsend.contract.errors import Unavailable
from hogsend.contract.headers import MESSAGE_ID
from services.gateway.routes.not_offered import NOT_OFFERED
from tests.unit.gateway.fakes import (
    ADMIN_KEY,
    INGEST_KEY,
    READ_KEY,
    FakeGateway,
    bearer,
    fake_gateway,
)

CREDENTIAL = "/v1/admin/provider-credentials/posthog"
LETTER = "/v1/admin/deadletters/7"


def entries(gateway: FakeGateway) -> list[AuditEntry]:
    messages = gateway.bus.published.messages
    assert {message.subject for message in messages} <= {subjects.AUDIT}
    return [msgspec.json.decode(message.body, type=AuditEntry) for message in messages]


def outcomes(gateway: FakeGateway) -> list[tuple[str, str, str, int]]:
    return [(entry.actor, entry.action, entry.resource, entry.status) for entry in entries(gateway)]


async def test_requests_that_may_change_something_are_recorded_with_their_outcome(
    gateway: FakeGateway,
) -> None:
    gateway.bus.reply_with(CREDENTIALS_DELETE, Deleted(deleted=True))
    await gateway.http.delete(CREDENTIAL, headers=bearer())
    await gateway.http.put(CREDENTIAL, json={"payload": {}}, headers=bearer())
    await gateway.http.delete(CREDENTIAL, headers=bearer(READ_KEY))
    await gateway.http.delete(LETTER, headers=bearer(INGEST_KEY))
    await gateway.http.post("/v1/admin/deadletters/replay", json={"all": True}, headers=bearer())
    assert outcomes(gateway) == [
        ("full-admin", "provider-credentials.delete", "posthog", 200),
        ("full-admin", "provider-credentials.put", "posthog", 400),
        ("read", "provider-credentials.delete", "posthog", 403),
        ("ingest", "deadletters.delete", "7", 403),
        ("full-admin", "deadletters.post", "replay", 503),
    ]


PARAMETERS = {int: "7", UUID: "6f2b7a60-5c5b-4f0e-9a55-0f7f0a3c2d11", str: "x"}
NOT_ADMIN = {
    ("POST", "/v1/webhooks/posthog"),
    ("POST", "/v1/webhooks/{source}"),
    ("POST", "/v1/events"),
    ("PUT", "/v1/contacts"),
    ("POST", "/v1/flags/evaluate"),
    # Signing in is recorded: test_console_sessions.py.
    ("POST", "/console/session"),
    ("DELETE", "/console/session"),
}
REFUSED = tuple(route.path for route in NOT_OFFERED)
"""Routes that Hogsend does not offer: no request to them changes anything."""
READING = {"GET", "HEAD", "OPTIONS"}


def changing_routes(gateway: FakeGateway) -> list[tuple[str, str]]:
    """Every route of the app whose method may change something, with parameters filled in."""
    changing = []
    for route in gateway.routes:
        path = route.path_format
        if path.startswith(REFUSED):
            continue
        for name, parameter in route.path_parameters.items():
            path = path.replace(f"{{{name}}}", PARAMETERS[parameter.type])
        changing += [
            (method, path)
            for method in sorted(route.methods - READING)
            if (method, route.path_format) not in NOT_ADMIN
        ]
    return changing


async def test_every_route_that_may_change_something_leaves_an_audit_entry(
    gateway: FakeGateway,
) -> None:
    routes = changing_routes(gateway)
    assert len(routes) >= 14
    for method, path in routes:
        gateway.bus.published.messages.clear()
        response = await gateway.http.request(method, path, json={"all": True}, headers=bearer())
        assert response.status_code not in {401, 404}, path
        (entry,) = entries(gateway)
        area, _, resource = (
            path.removeprefix("/v1").removeprefix("/").removeprefix("admin/").partition("/")
        )
        assert (entry.action, entry.resource) == (f"{area}.{method.lower()}", resource)


SPELLINGS: list[Callable[[str], str]] = [
    lambda path: f"/{path}",
    lambda path: path.replace("/", "//"),
    lambda path: f"{path}/",
    lambda path: f"{path}//",
    lambda path: path.replace("/admin/", "/./admin/"),
    lambda path: path.replace("/v1/", "/x/../v1/"),
    lambda path: path.replace("admin", "%61dmin"),
    lambda path: path.replace("/admin/", "%2Fadmin/"),
    lambda path: path.replace("/admin/", "/admin%2F"),
    lambda path: path.replace("admin", "ADMIN"),
    lambda path: f"{path};a=b",
    lambda path: f"{path}?x=/v1/events",
    lambda path: f"{path}%00",
    lambda path: path.replace("/", "\\"),
]


@pytest.mark.parametrize("number", range(len(SPELLINGS)))
async def test_no_spelling_of_a_path_changes_something_without_an_audit_entry(
    gateway: FakeGateway, number: int
) -> None:
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http"}
    gateway.bus.reply_with(CREDENTIALS_DELETE, Deleted(deleted=True))
    for method in ("DELETE", "delete", "PURGE"):
        gateway.bus.reset()
        gateway.bus.reply_with(CREDENTIALS_DELETE, Deleted(deleted=True))
        path, _, query = SPELLINGS[number](CREDENTIAL).partition("?")
        statuses: list[int] = []
        # The scope as a server passes it: httpx would normalize the path.
        await gateway.app(
            {
                **scope,
                "method": method,
                "path": unquote(path),
                "raw_path": path.encode(),
                "query_string": query.encode(),
                "root_path": "",
                "headers": [(b"authorization", f"Bearer {ADMIN_KEY}".encode())],
                "client": ("127.0.0.1", 1),
                "server": ("test", 80),
                "state": {},
            },
            _nothing,
            _status_into(statuses),
        )
        requests = len(gateway.bus.sent)
        assert len(entries(gateway)) >= requests, (path, method)
        assert statuses[0] != 200 or len(entries(gateway)) == 1


async def _nothing() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


def _status_into(statuses: list[int]) -> Any:
    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    return send


@pytest.mark.parametrize("name", ["X-HTTP-Method-Override", "X-Method-Override", "_method"])
async def test_a_method_override_header_is_ignored(gateway: FakeGateway, name: str) -> None:
    gateway.bus.reply_with(CREDENTIALS_DELETE, Deleted(deleted=True))
    for method in ("GET", "HEAD", "OPTIONS"):
        headers = {**bearer(), name: "DELETE"}
        await gateway.http.request(method, CREDENTIAL, headers=headers)
    assert all(request.subject.endswith(".get") for request in gateway.bus.sent)


async def test_an_entry_has_the_address_of_the_client_behind_a_trusted_proxy() -> None:
    async with fake_gateway(trusted_proxies="127.0.0.1") as gateway:
        headers = {**bearer(), "X-Forwarded-For": "192.0.2.7"}
        await gateway.http.delete(CREDENTIAL, headers=headers)
        assert entries(gateway)[0].address == "192.0.2.7"


async def test_reads_wrong_keys_and_reported_events_are_not_recorded(gateway: FakeGateway) -> None:
    await gateway.http.get(CREDENTIAL, headers=bearer())
    await gateway.http.delete(CREDENTIAL, headers=bearer("guess"))
    await gateway.http.delete(CREDENTIAL)
    await gateway.http.post("/v1/events", json={}, headers=bearer())
    assert entries(gateway) == []


async def test_an_entry_has_the_actor_and_the_time_but_never_the_body(gateway: FakeGateway) -> None:
    headers = {**bearer(), "X-Request-Id": "r-1"}
    secret = {"payload": {"accessToken": "pha_a"}}
    await gateway.http.put(CREDENTIAL, json=secret, headers=headers)
    (entry,) = entries(gateway)
    (message,) = gateway.bus.published.messages
    assert (entry.request_id, entry.address) == ("r-1", "127.0.0.1")
    assert entry.at.tzinfo is not None
    assert message.headers[MESSAGE_ID] == str(entry.id)
    assert b"pha_a" not in message.body


async def test_a_nul_in_a_path_is_replaced_in_the_entry(gateway: FakeGateway) -> None:
    await gateway.http.delete("/v1/admin/provider-credentials/a%00b", headers=bearer())
    assert entries(gateway)[0].resource == "a\ufffdb"


async def test_a_path_is_clipped_to_the_size_that_fits_into_a_page(gateway: FakeGateway) -> None:
    await gateway.http.delete(f"/v1/admin/provider-credentials/{'a' * 5000}", headers=bearer())
    assert entries(gateway)[0].resource == "a" * 500


async def test_an_entry_is_published_before_the_response_starts(gateway: FakeGateway) -> None:
    entries_at_response: list[int] = []
    inner = gateway.app

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def count_entries(message: Any) -> None:
            if message["type"] == "http.response.start":
                entries_at_response.append(len(entries(gateway)))
            await send(message)

        await inner(scope, receive, count_entries)

    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://test"
    ) as http:
        await http.delete(LETTER, headers=bearer())
    assert entries_at_response == [1]


async def test_a_request_is_answered_even_when_it_cannot_be_recorded(
    gateway: FakeGateway,
) -> None:
    gateway.bus.reply_with(CREDENTIALS_DELETE, Deleted(deleted=True))
    gateway.bus.published.fail = lambda _message: Unavailable("NATS is not connected")
    with capture_logs() as logs:
        response = await gateway.http.delete(CREDENTIAL, headers=bearer())
    assert (response.status_code, response.json()) == (200, {"deleted": True})
    assert logs[-1]["event"] == "audit entry not kept"
    assert logs[-1]["action"] == "provider-credentials.delete"

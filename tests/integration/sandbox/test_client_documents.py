"""Client metadata documents, by the rules of PostHog's posthog/api/oauth/cimd.py."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sandbox.oauth.documents import (
    MAX_BYTES,
    InvalidDocument,
    cache_seconds,
    check_url,
    read_document,
)
from tests.integration.sandbox.driver import Driver, authorization, sandbox
from tests.ports import free_port

URL = "https://example.com/client.json"
REDIRECT = "http://127.0.0.1:8424/callback"


def document(**changes: Any) -> bytes:
    fields = {"client_id": URL, "client_name": "Example", "redirect_uris": [REDIRECT]}
    return json.dumps(fields | changes).encode()


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/client.json",
        "https://example.com",
        "https://example.com/",
        "https://example.com/client.json?a=b",
        "https://example.com/client.json#a",
        "https://user@example.com/client.json",
        "https://127.0.0.1/client.json",
        "ftp://example.com/client.json",
        "https://[broken/client.json",
    ],
)
def test_a_client_id_that_is_not_an_https_url_of_a_document_is_refused(url: str) -> None:
    with pytest.raises(InvalidDocument):
        check_url(url, allow_http=False)


def test_an_http_client_id_is_accepted_with_the_option_for_loopback_only() -> None:
    check_url("http://127.0.0.1:3002/client.json", allow_http=True)
    with pytest.raises(InvalidDocument):
        check_url("http://example.com/client.json", allow_http=True)


def test_a_valid_document_is_parsed() -> None:
    client = read_document(URL, document(token_endpoint_auth_method="none"))
    assert client.name == "Example"
    assert client.redirect_uris == (REDIRECT,)


@pytest.mark.parametrize(
    "body",
    [
        b"not json",
        b"[]",
        document(client_id=f"{URL}/"),
        document(redirect_uris=[]),
        document(redirect_uris=None),
        document(redirect_uris="http://127.0.0.1/callback"),
        document(redirect_uris=[""]),
        document(redirect_uris=[f"{REDIRECT} {REDIRECT}"]),
        document(redirect_uris=["http://example.com/callback"]),
        document(redirect_uris=["javascript:alert(1)"]),
        document(token_endpoint_auth_method="client_secret_post"),
        document(token_endpoint_auth_method="client_secret_basic"),
        document(padding="x" * MAX_BYTES),
    ],
)
def test_a_document_that_breaks_a_rule_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidDocument):
        read_document(URL, body)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("", 3600),
        ("no-store", 3600),
        ("public, max-age=7200", 7200),
        ("max-age=1", 300),
        ("max-age=999999", 86_400),
        ("max-age=soon", 3600),
    ],
)
def test_a_document_is_cached_between_five_minutes_and_a_day(header: str, seconds: int) -> None:
    assert cache_seconds(header) == seconds


class Host:
    """Serves a client document, and counts the requests."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/client.json"
        self.head = "200 OK\r\nCache-Control: max-age=600"
        self.body = document(client_id=self.url)
        self.requests = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.requests += 1
        length = f"Content-Length: {len(self.body)}\r\nConnection: close"
        writer.write(f"HTTP/1.1 {self.head}\r\n{length}\r\n\r\n".encode() + self.body)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def hosted() -> AsyncIterator[tuple[Driver, Host]]:
    host = Host()
    server = await asyncio.start_server(host.serve, "127.0.0.1", host.port)
    async with sandbox(allow_http_clients=True) as posthog:
        yield posthog, host
    server.close()
    await server.wait_closed()


async def test_a_document_is_fetched_and_cached_until_it_expires() -> None:
    async with hosted() as (posthog, host):
        for _ in range(2):
            assert await posthog.code(client_id=host.url)
        assert host.requests == 1
        await posthog.advance(601)
        assert await posthog.code(client_id=host.url)
        assert host.requests == 2


@pytest.mark.parametrize(
    ("head", "body"),
    [
        ("404 Not Found", b""),
        ("302 Found\r\nLocation: http://127.0.0.1:1/other.json", b""),
        ("200 OK", b"x" * (MAX_BYTES + 1)),
    ],
)
async def test_a_response_that_is_no_document_is_refused(head: str, body: bytes) -> None:
    async with hosted() as (posthog, host):
        host.head, host.body = head, body
        query = authorization(client_id=host.url)
        response = await posthog.http.get("/oauth/authorize/", params=query)
        assert (response.status_code, response.json()["error"]) == (400, "invalid_request")
        assert host.requests == 1


async def test_the_name_of_a_client_is_escaped_in_the_consent_page() -> None:
    async with (
        hosted() as (_, host),
        sandbox(allow_http_clients=True, auto_consent=False) as posthog,
    ):
        host.body = document(client_id=host.url, client_name="<script>alert(1)</script>")
        query = authorization(client_id=host.url)
        page = await posthog.http.get("/oauth/authorize/", params=query)
        assert page.status_code == 200
        assert "<script" not in page.text
        assert "&lt;script&gt;" in page.text


async def test_a_client_whose_document_cannot_be_fetched_is_refused() -> None:
    async with sandbox(allow_http_clients=True) as posthog:
        query = authorization(client_id=f"http://127.0.0.1:{free_port()}/client.json")
        response = await posthog.http.get("/oauth/authorize/", params=query)
        assert response.status_code == 400


async def test_an_http_client_id_is_refused_without_a_request_unless_the_option_is_set() -> None:
    async with hosted() as (_, host), sandbox() as posthog:
        query = authorization(client_id=host.url)
        assert (await posthog.http.get("/oauth/authorize/", params=query)).status_code == 400
        assert host.requests == 0


async def test_at_most_five_new_clients_a_minute_are_looked_up() -> None:
    async with sandbox(allow_http_clients=True) as posthog:

        async def error(number: int) -> str:
            query = authorization(client_id=f"http://127.0.0.1:1/client-{number}.json")
            response = await posthog.http.get("/oauth/authorize/", params=query)
            return response.json()["error"]

        assert [await error(number) for number in range(5)] == ["invalid_request"] * 5
        assert await error(5) == "invalid_client"
        await posthog.advance(61)
        assert [await error(number) for number in range(6, 11)] == ["invalid_request"] * 5
        await posthog.advance(61)
        assert await error(11) == "invalid_client"

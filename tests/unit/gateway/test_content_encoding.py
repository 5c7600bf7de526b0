"""Compressed bodies: gzip is decoded up to the limit for a body. Any other encoding is a 415."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import msgspec
import pytest
from litestar.exceptions.http_exceptions import RequestEntityTooLarge

from hogsend.contract.events import INGEST_RECORD, Recorded
from hogsend.contract.exports import INGEST_EXPORT, ExportPage
from services.gateway.content_encoding import Gunzip
from tests.unit.gateway.fakes import INGEST_KEY, SECRET, FakeGateway, bearer, fake_gateway

URL = "/v1/webhooks/posthog"
BODY = json.dumps({"event": {"event": "signed_up", "distinct_id": "u_42"}}).encode()
PACKED = gzip.compress(BODY, mtime=0)
"""Compressed without a time, so that all pytest-xdist workers collect the same test ids."""
KEY = {"x-posthog-webhook-secret": SECRET}


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip"])
async def test_a_gzip_webhook_is_queued_decoded(gateway: FakeGateway, encoding: str) -> None:
    headers = {**KEY, "Content-Encoding": encoding}
    response = await gateway.http.post(URL, content=gzip.compress(BODY, mtime=0), headers=headers)
    assert (response.status_code, response.json()["userId"]) == (200, "u_42")
    (message,) = gateway.bus.published.messages
    assert message.body == BODY


async def test_a_gzip_body_may_have_several_chunks_and_members(gateway: FakeGateway) -> None:
    data = gzip.compress(BODY[:20], mtime=0) + gzip.compress(BODY[20:], mtime=0)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(len(data)):
            yield data[start : start + 1]

    headers = {**KEY, "Content-Encoding": "gzip"}
    response = await gateway.http.post(URL, content=pieces(), headers=headers)
    assert response.status_code == 200


async def test_the_encoding_identity_is_accepted_as_uncompressed(gateway: FakeGateway) -> None:
    headers = {**KEY, "Content-Encoding": "identity"}
    assert (await gateway.http.post(URL, content=BODY, headers=headers)).status_code == 200


@pytest.mark.parametrize("encoding", ["br", "zstd", "deflate", "gzip, gzip", "compress"])
async def test_another_encoding_is_415(gateway: FakeGateway, encoding: str) -> None:
    headers = {**KEY, "Content-Encoding": encoding}
    response = await gateway.http.post(URL, content=BODY, headers=headers)
    assert response.status_code == 415
    assert "gzip" in response.json()["error"]
    assert gateway.bus.published.messages == []


@pytest.mark.parametrize("path", ["/console/live", f"/v1/admin/contacts/{UUID(int=42)}/export"])
async def test_a_streaming_request_with_another_encoding_is_415(
    gateway: FakeGateway, path: str
) -> None:
    messages: list[Any] = []

    async def receive() -> Any:
        # As with a real server, the body arrives some iterations of the event loop later. A
        # response that does not depend on it starts in between.
        for _ in range(100):
            await asyncio.sleep(0)
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        messages.append(message)

    headers = {**bearer(), "Host": "x", "Content-Encoding": "br"}
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "path": path,
        "query_string": b"",
        "client": None,
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
    }
    gateway.bus.replies[INGEST_EXPORT.subject] = ExportPage(items=[msgspec.Raw(b"{}")], counts={})
    await gateway.app(scope, receive, send)
    assert messages[0]["status"] == 415


async def test_a_gzip_body_that_decodes_beyond_the_limit_is_413() -> None:
    bomb = gzip.compress(b" " * 50_000_000, mtime=0)
    async with fake_gateway(webhook_max_bytes=100_000) as gateway:
        headers = {**KEY, "Content-Encoding": "gzip"}
        response = await gateway.http.post(URL, content=bomb, headers=headers)
    assert len(bomb) < 100_000
    assert response.status_code == 413


@pytest.mark.parametrize("body", [BODY, PACKED[:-9], PACKED[:-4], b"no gzip", PACKED + b"x"])
async def test_a_body_that_is_not_complete_gzip_is_a_malformed_webhook(
    gateway: FakeGateway, body: bytes
) -> None:
    headers = {**KEY, "Content-Encoding": "gzip"}
    response = await gateway.http.post(URL, content=body, headers=headers)
    expected = {"error": "Invalid payload", "details": "Malformed JSON"}
    assert (response.status_code, response.json()) == (400, expected)
    assert gateway.bus.published.messages == []


def test_endless_gzip_that_decodes_to_nothing_is_refused() -> None:
    gunzip, nothing = Gunzip(10_000), gzip.compress(b"", mtime=0)
    for _ in range(500):
        assert gunzip.decode(nothing) == b""
    with pytest.raises(RequestEntityTooLarge):
        gunzip.decode(nothing * 500)


def test_a_body_that_gzip_makes_larger_is_within_the_limit() -> None:
    noise = random.Random(1).randbytes(1_000_000)  # noqa: S311
    packed = gzip.compress(noise, 0, mtime=0)
    assert len(packed) > len(noise)
    assert Gunzip(len(noise)).decode(packed) == noise


async def test_a_webhook_without_the_secret_is_401_whatever_its_encoding(
    gateway: FakeGateway,
) -> None:
    response = await gateway.http.post(URL, content=BODY, headers={"Content-Encoding": "br"})
    assert response.status_code == 401


async def test_reported_events_may_be_gzip_too(gateway: FakeGateway) -> None:
    gateway.bus.reply_with(INGEST_RECORD, Recorded(id="1", stored=True, contact_key="u_42"))
    headers = {
        **bearer(INGEST_KEY),
        "Content-Encoding": "gzip",
        "Content-Type": "application/json",
    }
    data = gzip.compress(b'{"event":"a","userId":"u_42"}', mtime=0)
    response = await gateway.http.post("/v1/events", content=data, headers=headers)
    assert response.status_code == 202
    headers["Content-Encoding"] = "br"
    response = await gateway.http.post("/v1/events", content=data, headers=headers)
    assert response.status_code == 415


def test_gzip_is_decoded_only_up_to_the_limit() -> None:
    """The app's own limit also refuses such a body, but only after all of it is in memory."""
    assert Gunzip(10).decode(gzip.compress(b"x" * 10)) == b"x" * 10
    with pytest.raises(RequestEntityTooLarge):
        Gunzip(10).decode(gzip.compress(b"x" * 11))

"""Reading a response: its decoded body never takes more memory than the reader allows."""

from __future__ import annotations

import contextlib
import gzip
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest

from hogsend.posthog.errors import PostHogError
from hogsend.posthog.exchange import exchange
from hogsend.posthog.response_body import ACCEPTED, ResponseTooLarge, read, read_prefix
from hogsend.service.http import http_client
from hogsend.service.ssrf import EgressPolicy

MIB = 1024 * 1024
LARGE = gzip.compress(bytes(64 * MIB))
"""64 MiB of zeros, compressed to 64 KiB."""
Reader = Callable[[httpx.Response, int], Awaitable[bytes]]


def response(content: bytes, encoding: str | None, piece: int = 7) -> httpx.Response:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(content), piece):
            yield content[start : start + piece]

    headers = {} if encoding is None else {"Content-Encoding": encoding}
    return httpx.Response(200, headers=headers, content=pieces())


@pytest.mark.parametrize("piece", [1, 7, MIB])
@pytest.mark.parametrize(
    ("encoding", "encode"),
    [
        (None, bytes),
        ("identity", bytes),
        ("gzip", gzip.compress),
        ("X-GZIP", gzip.compress),
        ("deflate", zlib.compress),
    ],
)
async def test_a_response_is_decoded_by_its_content_encoding(
    encoding: str | None, encode: Callable[[bytes], bytes], piece: int
) -> None:
    text = b'{"results": [%s]}' % b", ".join(b'"person %d"' % number for number in range(100))
    assert await read(response(encode(text), encoding, piece), len(text)) == text
    assert await read_prefix(response(encode(text), encoding, piece), 12) == text[:12]
    with pytest.raises(ResponseTooLarge):
        await read(response(encode(text), encoding, piece), len(text) - 1)


async def test_an_empty_response_is_read_as_empty() -> None:
    assert await read(response(b"", "gzip"), 10) == b""


@pytest.mark.parametrize("reader", [read, read_prefix])
async def test_a_response_is_never_decompressed_beyond_the_limit(reader: Reader) -> None:
    received = response(LARGE, "gzip", len(LARGE))
    tracemalloc.start()
    try:
        with contextlib.suppress(ResponseTooLarge):
            assert await reader(received, 1000) == bytes(1000)
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("encoding", ["gzip, gzip", "gzip,gzip,gzip", "br", "zstd", "compress"])
async def test_an_encoding_that_was_not_requested_is_refused(encoding: str) -> None:
    with pytest.raises(httpx.DecodingError):
        await read(response(gzip.compress(LARGE), encoding), 1000)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_response_that_is_not_in_its_content_encoding_is_refused(encoding: str) -> None:
    with pytest.raises(httpx.DecodingError):
        await read(response(b"<html>", encoding), 1000)


@pytest.mark.parametrize("encoding", ["gzip", "gzip, gzip"])
async def test_a_compressed_response_of_posthog_is_refused_before_it_is_decompressed(
    encoding: str,
) -> None:
    def hostile(_request: httpx.Request) -> httpx.Response:
        return response(LARGE, encoding, len(LARGE))

    async with httpx.AsyncClient(transport=httpx.MockTransport(hostile)) as http:
        tracemalloc.start()
        try:
            with pytest.raises(PostHogError):
                await exchange(
                    *(http, "GET", "https://posthog.example/"),
                    headers={},
                    content=None,
                    seconds=60,
                    max_bytes=1000,
                )
            assert tracemalloc.get_traced_memory()[1] < MIB
        finally:
            tracemalloc.stop()


async def test_services_request_the_encodings_that_they_decode() -> None:
    async with http_client(EgressPolicy()) as http:
        assert http.headers["Accept-Encoding"] == ACCEPTED["Accept-Encoding"]

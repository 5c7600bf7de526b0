"""Reads HTTP response bodies up to a maximum size, measured after decompression.

A few hundred bytes can decompress to gigabytes. httpx decompresses every received chunk as a
whole, through as many encodings as the response names. Therefore this module reads raw chunks and
decompresses them itself.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Final

import httpx

ACCEPTED: Final = {"Accept-Encoding": "gzip, deflate"}
"""Header for every request. By default httpx accepts all encodings of the installed packages."""

_PLAIN = frozenset({"", "identity"})
_COMPRESSED = frozenset({"gzip", "x-gzip", "deflate"})
_ANY_HEADER = 32 + zlib.MAX_WBITS
"""Parameter of zlib: the largest window, and detection of a gzip or zlib header."""

Decode = Callable[[bytes, int], bytes]
"""Decompresses a chunk to at most a number of bytes, which must not be 0."""


class ResponseTooLarge(Exception):
    """A response is larger than the maximum that its reader set."""


async def read(response: httpx.Response, max_bytes: int) -> bytes:
    """Read a streamed response.

    Raises:
        ResponseTooLarge: the decompressed body has more than `max_bytes`.
        DecodingError: of httpx: the body does not match its `Content-Encoding`, or that encoding
            was not requested.
    """
    content = await read_prefix(response, max_bytes + 1)
    if len(content) > max_bytes:
        raise ResponseTooLarge
    return content


async def read_prefix(response: httpx.Response, max_bytes: int) -> bytes:
    """Read the beginning of a streamed response, at most `max_bytes`, which must not be 0.

    Raises:
        DecodingError: of httpx: the body does not match its `Content-Encoding`, or that encoding
            was not requested.
    """
    if response.is_stream_consumed:
        # httpx has already read a response that was built from bytes, as in tests.
        return response.content[:max_bytes]
    decode = _decoder(response)
    content = bytearray()
    async for chunk in response.aiter_raw():
        try:
            content += decode(chunk, max_bytes - len(content))
        except zlib.error:
            raise httpx.DecodingError("the body does not match its Content-Encoding") from None
        if len(content) >= max_bytes:
            break
    return bytes(content)


def _decoder(response: httpx.Response) -> Decode:
    encoding = response.headers.get("content-encoding", "").strip().lower()
    if encoding in _PLAIN:
        return lambda chunk, max_bytes: chunk[:max_bytes]
    if encoding in _COMPRESSED:
        return zlib.decompressobj(_ANY_HEADER).decompress
    raise httpx.DecodingError("the Content-Encoding was not requested")

"""The body of an answer, decoded no further than its reader allows.

A few hundred bytes decompress to gigabytes, and httpx decompresses each piece it receives as a
whole, through as many encodings as the answer names. So pieces are taken as they arrive, and are
decoded here.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Final

import httpx

ACCEPTED: Final = {"Accept-Encoding": "gzip, deflate"}
"""Header for every request; httpx would ask for whatever the installed packages can decode."""

_PLAIN = frozenset({"", "identity"})
_COMPRESSED = frozenset({"gzip", "x-gzip", "deflate"})
_ANY_HEADER = 32 + zlib.MAX_WBITS
"""Window size for zlib: the largest, after gzip's header or its own."""

Decode = Callable[[bytes, int], bytes]
"""Decodes the next bytes, up to a number of bytes that is not 0."""


class AnswerTooLarge(Exception):
    """An answer is larger than its reader allows."""


async def read(answer: httpx.Response, max_bytes: int) -> bytes:
    """Read a streamed answer.

    Raises:
        AnswerTooLarge: it has more than `max_bytes`.
        DecodingError: of httpx: it is encoded in another way than it says, or than it may be.
    """
    content = await read_beginning(answer, max_bytes + 1)
    if len(content) > max_bytes:
        raise AnswerTooLarge
    return content


async def read_beginning(answer: httpx.Response, max_bytes: int) -> bytes:
    """Read what a streamed answer begins with: at most `max_bytes`, which is not 0.

    Raises:
        DecodingError: of httpx: it is encoded in another way than it says, or than it may be.
    """
    if answer.is_stream_consumed:
        # httpx reads an answer that was made of bytes, as those of tests are, at once.
        return answer.content[:max_bytes]
    decode = _decoder(answer)
    content = bytearray()
    async for piece in answer.aiter_raw():
        try:
            content += decode(piece, max_bytes - len(content))
        except zlib.error:
            raise httpx.DecodingError("the answer is not encoded as it says") from None
        if len(content) >= max_bytes:
            break
    return bytes(content)


def _decoder(answer: httpx.Response) -> Decode:
    encoding = answer.headers.get("content-encoding", "").strip().lower()
    if encoding in _PLAIN:
        return lambda piece, room: piece[:room]
    if encoding in _COMPRESSED:
        return zlib.decompressobj(_ANY_HEADER).decompress
    raise httpx.DecodingError("the answer is encoded in a way that was not asked for")

"""Decodes request bodies that a client or proxy compressed with gzip (RFC 9110, 8.4)."""

from __future__ import annotations

import zlib

from litestar.enums import ScopeType
from litestar.exceptions import HTTPException
from litestar.exceptions.http_exceptions import RequestEntityTooLarge
from litestar.types import ASGIApp, Receive, ReceiveMessage, Scope, Send

from services.gateway.json_body import MalformedBodyError

GZIP_BITS = 16 + zlib.MAX_WBITS
"""Window size for zlib: the largest, with gzip's header."""
PLAIN = frozenset({b"", b"identity"})
GZIP = frozenset({b"gzip", b"x-gzip"})


class UnsupportedEncoding(HTTPException):
    """The body has a content encoding other than gzip; nothing was accepted."""

    status_code = 415
    detail = "Unsupported Content-Encoding: send the body as it is, or with gzip"


class Gunzip:
    """Decodes one body while it arrives, with at most `limit` decoded bytes in memory."""

    def __init__(self, limit: int) -> None:
        """Expect a body of at most `limit` bytes after decoding."""
        self._limit = limit
        # Data that cannot be compressed becomes a little larger (RFC 1951, 3.2.4).
        self._max_encoded = limit + limit // 64 + 1024
        self._encoded = 0
        self._decoded = 0
        self._member = zlib.decompressobj(GZIP_BITS)
        self._started = False

    def decode(self, data: bytes) -> bytes:
        """Decode the next bytes of the body.

        Raises:
            RequestEntityTooLarge: the body is larger than the limit, decoded or encoded. The
                encoded size has a limit because endless gzip data may decode to nothing.
            MalformedBodyError: the data is not gzip.
        """
        self._encoded += len(data)
        if self._encoded > self._max_encoded:
            raise RequestEntityTooLarge
        pieces = []
        while data:
            if self._member.eof:
                # A gzip file may consist of several members in sequence (RFC 1952, 2.2).
                self._member = zlib.decompressobj(GZIP_BITS)
            self._started = True
            try:
                pieces.append(self._member.decompress(data, self._limit - self._decoded + 1))
            except zlib.error as error:
                raise MalformedBodyError from error
            self._decoded += len(pieces[-1])
            if self._decoded > self._limit:
                raise RequestEntityTooLarge
            data = self._member.unconsumed_tail or self._member.unused_data
        return b"".join(pieces)

    def finish(self) -> None:
        """Check that the body was complete.

        Raises:
            MalformedBodyError: the gzip data ends early.
        """
        if self._started and not self._member.eof:
            raise MalformedBodyError


def with_content_decoding(app: ASGIApp, max_bytes: int) -> ASGIApp:
    """Wrap `app` so that it reads gzip bodies decoded, up to `max_bytes`.

    Requests with another content encoding are answered 415 when their body is read.
    """

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return
        encodings = [value for name, value in scope["headers"] if name == b"content-encoding"]
        encoding = b",".join(encodings).strip().lower()
        if encoding in PLAIN:
            await app(scope, receive, send)
            return
        gunzip = Gunzip(max_bytes) if encoding in GZIP else None

        async def receive_decoded() -> ReceiveMessage:
            message = await receive()
            if message["type"] != "http.request":
                return message
            # Raised when the body is read, so that a wrong key is answered 401 first.
            if gunzip is None:
                raise UnsupportedEncoding
            body = gunzip.decode(message["body"])
            if not message["more_body"]:
                gunzip.finish()
            return {"type": "http.request", "body": body, "more_body": message["more_body"]}

        await app(scope, receive_decoded, send)

    return wrapped

"""Decoding of SDK requests: gzip, base64, forms (rust/capture/src/v0_request.rs)."""

from __future__ import annotations

import base64
import binascii
import gzip
import zlib
from typing import Any
from urllib.parse import parse_qs

import msgspec

from sandbox.ingestion.errors import undecodable, unparseable

GZIP_MAGIC = b"\x1f\x8b"


def decode(body: bytes, content_type: str, encoding: str, compression: str) -> Any:
    """Decode a request body to JSON.

    Args:
        body: of the request.
        content_type: header `Content-Type`.
        encoding: header `Content-Encoding`.
        compression: query parameter `compression`: `gzip`, `gzip-js` or `base64`.

    Raises:
        CaptureError: it cannot be decoded or parsed.
    """
    if "gzip" in encoding or compression.startswith("gzip") or body.startswith(GZIP_MAGIC):
        body = _gunzip(body)
    if "form" in content_type or body.startswith(b"data="):
        form = parse_qs(body.decode(errors="replace"))
        body = form.get("data", [""])[0].encode()
        compression = form.get("compression", [compression])[0]
    if compression == "base64" or (body and body[:1] not in b'{["'):
        body = _decode_base64(body)
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise unparseable(str(error)) from error


def _gunzip(body: bytes) -> bytes:
    try:
        return gzip.decompress(body)
    except (OSError, EOFError, zlib.error) as error:
        raise undecodable("failed to decode gzip data") from error


def _decode_base64(body: bytes) -> bytes:
    try:
        decoded = base64.b64decode(body.replace(b" ", b"+"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise undecodable("the body is neither JSON nor base64") from error
    return _gunzip(decoded) if decoded.startswith(GZIP_MAGIC) else decoded

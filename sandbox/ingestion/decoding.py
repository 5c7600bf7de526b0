"""Decodes requests of SDKs: gzip, lz-string, base64, forms (rust/capture/src/payload)."""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from typing import Any
from urllib.parse import parse_qs

import msgspec

from hogsend.contract.json_text import NOT_JSON
from sandbox.ingestion.errors import empty_payload, too_big, undecodable, unparseable
from sandbox.ingestion.lz_string import LzError, TooLong, decompress

MAX_BYTES = 20 * 1024 * 1024
"""Maximum size of a request, before and after decompression (`EVENT_PAYLOAD_SIZE_LIMIT`)."""
GZIP_MAGIC = b"\x1f\x8b\x08"
FORM = "application/x-www-form-urlencoded"

GZIP = frozenset({"gzip", "gzip-js"})
LZ_STRING = frozenset({"lz64", "lz-string"})

_FORM_START = (b"data=", b"ver=", b"_=", b"ip=", b"compression=")
_CHARACTERS_CHECKED = 128
_BASE64 = re.compile(rb"[A-Za-z0-9+/=]+")
_BASE64_IN_FORM = re.compile(rb"[A-Za-z0-9+/= ]+")


class Payload(msgspec.Struct, frozen=True, kw_only=True):
    """A request before it is decoded."""

    body: bytes
    content_type: str = ""
    encoding: str = ""
    """Header `Content-Encoding`."""
    compression: str = ""
    """Query parameter `compression`."""
    data: str = ""
    """Query parameter `data`, which takes precedence over the body."""
    may_be_base64: bool = False
    """Whether the decompressed text may be base64, as for older paths such as `/e`."""


def decode(payload: Payload) -> Any:
    """Decode a request to JSON.

    Raises:
        CaptureError: the request cannot be decoded or parsed, or is too large.
    """
    raw = payload.data.encode() or payload.body
    if not raw:
        raise empty_payload()
    body, hint = raw, payload.compression.lower()
    if not body.startswith(_FORM_START) and _is_base64(body):
        body = _from_base64(body)
    if payload.content_type == FORM:
        form = _form(body)
        body = form.get("data", "").encode()
        if _BASE64_IN_FORM.fullmatch(body[:_CHARACTERS_CHECKED]):
            body = body.replace(b" ", b"+")
        raw, hint = body, hint or form.get("compression", "").lower()
    text = _decompressed(body, raw, hint or payload.encoding.lower())
    if payload.may_be_base64 and _is_base64(text):
        text = _from_base64(text)
        if len(text) > MAX_BYTES:
            raise too_big(f"a request of more than {MAX_BYTES} bytes")
    try:
        return msgspec.json.decode(text)
    except NOT_JSON as error:
        raise unparseable(str(error)) from error


def _form(body: bytes) -> dict[str, str]:
    if not body.startswith(_FORM_START):
        raise undecodable("expected form data in POST request payload")
    form = parse_qs(body.decode(errors="replace"), keep_blank_values=True)
    return {name: values[0] for name, values in form.items()}


def _decompressed(body: bytes, raw: bytes, hint: str) -> bytes:
    """Decompress a body; `raw` is the body before base64 was decoded.

    The output of lz-string is base64 itself, so lz-string needs `raw`.
    """
    if hint in GZIP or body.startswith(GZIP_MAGIC):
        return _gunzip(body)
    if hint in LZ_STRING:
        return _from_lz(raw)
    _check_utf8(body, "invalid UTF8 in request payload")
    if len(body) > MAX_BYTES:
        raise too_big(f"a request of more than {MAX_BYTES} bytes")
    return body


def _gunzip(body: bytes) -> bytes:
    stream = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        text = stream.decompress(body, MAX_BYTES + 1)
    except zlib.error as error:
        raise undecodable("invalid GZIP data") from error
    if len(text) > MAX_BYTES:
        raise too_big(f"more than {MAX_BYTES} bytes after decompressing")
    if not stream.eof:
        raise undecodable("invalid GZIP data")
    _check_utf8(text, "invalid gzip data")
    return text


def _from_lz(body: bytes) -> bytes:
    try:
        text = decompress(body.decode("ascii"), MAX_BYTES).encode()
    except TooLong as error:
        raise too_big(f"more than {MAX_BYTES} bytes after decompressing") from error
    except (LzError, UnicodeDecodeError) as error:
        raise undecodable("decompress_lz64: failed decompress to UTF16") from error
    if len(text) > MAX_BYTES:
        raise too_big(f"more than {MAX_BYTES} bytes after decompressing")
    return text


def _check_utf8(body: bytes, problem: str) -> None:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise undecodable(problem) from error


def _is_base64(body: bytes) -> bool:
    """Whether a body looks like base64. PostHog checks only the first characters and the length."""
    return len(body) % 4 == 0 and _BASE64.fullmatch(body[:_CHARACTERS_CHECKED]) is not None


def _from_base64(body: bytes) -> bytes:
    """Decode base64; return other text unchanged."""
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        return body

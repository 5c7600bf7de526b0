"""The head of an answer: status line and headers, and how the end of the body is told."""

from __future__ import annotations

import time
from collections.abc import Iterable
from email.utils import formatdate
from http import HTTPStatus
from typing import NamedTuple

_WITHOUT_BODY = frozenset({204, 304})
_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}".encode() for status in HTTPStatus
}


class InvalidAnswer(Exception):
    """What the application sends is no answer that HTTP/1.1 knows."""


class Head(NamedTuple):
    """An encoded head, and what follows it."""

    encoded: bytes
    length: int | None
    """Bytes of body that the head announces; None where the body tells its own end."""
    chunked: bool
    closes: bool
    """Whether the connection ends with this answer."""
    has_body: bool


class Clock:
    """The time of day as a header, made once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._header = b""

    def header(self) -> bytes:
        """Give `date`, which every answer has (RFC 9110, 6.6.1)."""
        if (second := int(time.time())) != self._second:
            self._second = second
            self._header = b"date: " + formatdate(second, usegmt=True).encode()
        return self._header


def encode_head(
    status: int,
    headers: Iterable[tuple[bytes, bytes]],
    date: bytes,
    *,
    method: str,
    version: str,
    closes: bool,
    whole: int | None,
) -> Head:
    """Encode a head.

    Args:
        status: of the answer.
        headers: what the application says.
        date: line of `Clock`.
        method: of the request.
        version: of HTTP that the client speaks.
        closes: whether the connection ends with this answer, even if the application does not ask.
        whole: size of the body when all of it is known.

    Raises:
        InvalidAnswer: a header has a line break in it, or says nothing that can be kept.
    """
    lines = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d " % status]
    length: int | None = None
    for name, value in headers:
        lower = name.lower()
        if lower == b"content-length":
            length = _length(value)
        elif lower == b"connection":
            closes = closes or b"close" in value.lower()
            continue
        elif lower == b"transfer-encoding":
            # Ours to choose.
            continue
        lines.append(b"%b: %b" % (lower, value))
    lines.append(date)
    has_body = method != "HEAD" and status not in _WITHOUT_BODY
    chunked = False
    if length is None and has_body:
        if whole is not None:
            length = whole
            lines.append(b"content-length: %d" % whole)
        elif version == "1.1":
            chunked = True
            lines.append(b"transfer-encoding: chunked")
        else:
            closes = True
    if closes:
        lines.append(b"connection: close")
    lines.append(b"\r\n")
    encoded = b"\r\n".join(lines)
    breaks = len(lines)
    if encoded.count(b"\n") != breaks or encoded.count(b"\r") != breaks or b"\0" in encoded:
        raise InvalidAnswer("a header of an answer holds a line break or NUL")
    return Head(encoded, length, chunked, closes, has_body)


def refusal(status: int, date: bytes) -> bytes:
    """Encode an answer of the server itself, which ends the connection."""
    return b"\r\n".join(
        (_STATUS_LINES[status], date, b"content-length: 0", b"connection: close", b"\r\n")
    )


def _length(value: bytes) -> int:
    if not value.isdigit():
        raise InvalidAnswer("content-length of an answer is no number")
    return int(value)

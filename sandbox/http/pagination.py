"""Pagination by `limit` and `offset`, as in Django REST framework."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

import msgspec
from litestar import Request

DEFAULT_LIMIT = 100

Item = TypeVar("Item")


class Page(msgspec.Struct, Generic[Item], frozen=True):
    """A page, with the URLs of the next and the previous one."""

    count: int
    next: str | None
    previous: str | None
    results: Sequence[Item]


def paginate(request: Request[Any, Any, Any], base_url: str, items: Sequence[Item]) -> Page[Item]:
    """Return the page of `items` that a request asks for."""
    limit = _number(request.query_params.get("limit")) or DEFAULT_LIMIT
    offset = _number(request.query_params.get("offset"))
    address = f"{base_url}{request.scope['path'].rstrip('/')}/"
    others = [
        pair for pair in request.query_params.multi_items() if pair[0] not in ("limit", "offset")
    ]

    def at(start: int) -> str:
        window = [("limit", limit), *([("offset", start)] if start else [])]
        return f"{address}?{urlencode([*others, *window])}"

    return Page(
        count=len(items),
        next=at(offset + limit) if offset + limit < len(items) else None,
        previous=at(max(0, offset - limit)) if offset else None,
        results=items[offset : offset + limit],
    )


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0

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
    """A page of a list, with the URLs of the next and the previous page."""

    count: int
    next: str | None
    previous: str | None
    results: Sequence[Item]


def paginate(request: Request[Any, Any, Any], base_url: str, items: Sequence[Item]) -> Page[Item]:
    """Return the page of `items` that a request selects with `limit` and `offset`."""
    limit = _number(request.query_params.get("limit")) or DEFAULT_LIMIT
    offset = _number(request.query_params.get("offset"))
    address = f"{base_url}{request.scope['path'].rstrip('/')}/"
    filters = [
        pair for pair in request.query_params.multi_items() if pair[0] not in ("limit", "offset")
    ]

    def page_url(start: int) -> str:
        window = [("limit", limit), *([("offset", start)] if start else [])]
        return f"{address}?{urlencode([*filters, *window])}"

    return Page(
        count=len(items),
        next=page_url(offset + limit) if offset + limit < len(items) else None,
        previous=page_url(max(0, offset - limit)) if offset else None,
        results=items[offset : offset + limit],
    )


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0

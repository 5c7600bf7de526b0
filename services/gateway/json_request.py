"""Requests with a JSON body, as the routes take them."""

from __future__ import annotations

from typing import Any

from litestar import Request

from services.gateway.json_body import decode_json


class JSONRequest(Request[Any, Any, Any]):
    """A request whose body Litestar does not decode: it calls too much of JSON malformed."""

    async def json(self) -> Any:
        """Decode the body; raises like `decode_json`."""
        return decode_json(await self.body())

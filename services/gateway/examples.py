"""Adds headers, and an example of every body, to the OpenAPI document.

The examples are in `examples.json`, by operation id and status. A test validates them against the
schemas.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
from litestar import Litestar
from litestar.openapi.spec import Example, OpenAPIResponse, Operation
from litestar.routes import HTTPRoute

from services.gateway.described_headers import headers_of

REQUEST = "request"
JSON = "application/json"

Examples: TypeAlias = dict[str, dict[str, Any]]


@cache
def examples() -> Examples:
    """Return example bodies by operation id, and by status or `REQUEST`."""
    path = Path(__file__).with_suffix(".json")
    return msgspec.json.decode(path.read_bytes(), type=Examples)


@dataclass
class BodyExample(Example):
    """An example whose null values are kept. Litestar's own `Example` omits them."""

    def to_schema(self) -> dict[str, Any]:
        """Return the example as OpenAPI describes it."""
        return {"value": self.value}


@dataclass
class DescribedOperation(Operation):
    """An operation with described response headers and with examples of its bodies."""

    def __post_init__(self) -> None:
        """Add the headers and the examples."""
        for status, response in (self.responses or {}).items():
            if isinstance(response, OpenAPIResponse):
                response.headers = {
                    **headers_of(status, self.security),
                    **(response.headers or {}),
                }
        for name, body in examples().get(self.operation_id or "", {}).items():
            described: Any = self.request_body if name == REQUEST else (self.responses or {})[name]
            described.content[JSON].examples = {"example": BodyExample(value=body)}


def add_examples(app: Litestar) -> None:
    """Have all routes described by `DescribedOperation`. Call before the document is generated."""
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for handler, _ in route.route_handler_map.values():
                if handler.operation_class is Operation:
                    handler.operation_class = DescribedOperation

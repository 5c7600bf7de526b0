"""What the OpenAPI document has besides types: headers, and an example of every body.

Examples are in `examples.json`, by operation and status; a test holds them against the schemas.
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
    """Bodies by operation id, and by status or `REQUEST`."""
    path = Path(__file__).with_suffix(".json")
    return msgspec.json.decode(path.read_bytes(), type=Examples)


@dataclass
class BodyExample(Example):
    """A body as it is; Litestar leaves out what is null."""

    def to_schema(self) -> dict[str, Any]:
        """Show the body."""
        return {"value": self.value}


@dataclass
class DescribedOperation(Operation):
    """An operation whose answers have their headers, and whose bodies an example."""

    def __post_init__(self) -> None:
        """Add them."""
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
    """Let the app's document have them; called before it is asked for."""
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for handler, _ in route.route_handler_map.values():
                if handler.operation_class is Operation:
                    handler.operation_class = DescribedOperation

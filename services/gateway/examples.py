"""Examples in the OpenAPI document: a request and an answer of every route.

They are in `examples.json`, by operation and status; a test holds them against the schemas.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
from litestar import Litestar
from litestar.openapi.spec import Example, Operation
from litestar.routes import HTTPRoute

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
class OperationWithExamples(Operation):
    """An operation whose bodies have the examples of `examples`."""

    def __post_init__(self) -> None:
        """Add them."""
        for name, body in examples().get(self.operation_id or "", {}).items():
            described: Any = self.request_body if name == REQUEST else (self.responses or {})[name]
            described.content[JSON].examples = {"example": BodyExample(value=body)}


def add_examples(app: Litestar) -> None:
    """Let the app's document have them; called before it is asked for."""
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for handler, _ in route.route_handler_map.values():
                if handler.operation_class is Operation:
                    handler.operation_class = OperationWithExamples

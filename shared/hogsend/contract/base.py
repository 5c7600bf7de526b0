"""The base class of all messages, and types that many messages use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeAlias, get_args

import msgspec

Properties: TypeAlias = dict[str, Any]
"""Event or person properties: a JSON object with any keys, stored unchanged."""

Limit: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=100)]
"""Maximum number of items on one page of a list."""
Offset: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
"""Number of items to skip before a page."""


def open_enum(values: Any) -> msgspec.Meta:
    """Describe a text field whose present values are those of the `Literal` type `values`.

    For fields that external services read. A later version may write further values. If the field
    had the `Literal` itself as its type, a reader of this version could not decode such a message.
    """
    return msgspec.Meta(examples=list(get_args(values)))


class Message(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of every message: immutable, keyword-only, camelCase on the wire.

    Readers ignore unknown keys, so an older reader understands a newer writer. For unknown values
    of a field see `open_enum`.
    """

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Callable[[Any], Any]) -> Any:
        """Let pydantic models have fields of this type; FastStream makes such models."""
        from hogsend.contract import pydantic_schema  # noqa: PLC0415  # only pydantic calls this

        return handler(pydantic_schema.annotated(source))


class Empty(Message, frozen=True):
    """A request or reply without fields."""

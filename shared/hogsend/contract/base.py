"""What all messages share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeAlias, get_args

import msgspec

Properties: TypeAlias = dict[str, Any]
"""A bag whose keys others choose: event or person properties, kept as they came."""

Limit: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=100)]
"""Most items of one page of a list."""
Offset: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
"""Items of a list that come before a page."""


def one_of(known: Any) -> msgspec.Meta:
    """Describe a text that has these values today, a `Literal`, where others read it.

    A later version may write further ones. A field whose type is the `Literal` would make the whole
    message unreadable for those who do not know them.
    """
    return msgspec.Meta(examples=list(get_args(known)))


class Message(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of every message: immutable, keyword-only, camelCase on the wire.

    Unknown keys are ignored, so that an older reader understands a newer writer; see `one_of` for
    values.
    """

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Callable[[Any], Any]) -> Any:
        """Take part in a model of pydantic's, as FastStream makes one to describe a handler."""
        from hogsend.contract import pydantic_schema  # noqa: PLC0415  # only pydantic calls this

        return handler(pydantic_schema.annotated(source))


class Empty(Message, frozen=True):
    """A request or reply that carries nothing."""

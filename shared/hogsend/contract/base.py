"""What all messages share."""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

Properties: TypeAlias = dict[str, Any]
"""A bag whose keys belong to somebody else: event or person properties, kept as they came."""


class Message(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of every message: immutable, keyword-only, camelCase on the wire.

    Unknown keys are ignored, so that an older reader understands a newer writer.
    """


class Empty(Message, frozen=True):
    """A request or reply that carries nothing."""

"""Decodes the body of one message."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from faststream.message import StreamMessage

from hogsend.contract.errors import InvalidRequest
from hogsend.contract.json_text import NOT_JSON, replace_lone_surrogates


def decoder_of(kind: type[Any]) -> Callable[[StreamMessage[Any]], Awaitable[Any]]:
    """Make what decodes a message's body; it raises `InvalidRequest` for anything but a `kind`."""
    decode = msgspec.json.Decoder(kind).decode

    async def decode_body(message: StreamMessage[Any]) -> Any:
        try:
            return decode(replace_lone_surrogates(message.body) or b"{}")
        except NOT_JSON as error:
            raise InvalidRequest(str(error)) from error

    return decode_body

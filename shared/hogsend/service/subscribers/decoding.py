"""Decoders of message bodies."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

from faststream.message import StreamMessage

from hogsend.contract.errors import InvalidRequest
from hogsend.contract.json_numbers import decoder
from hogsend.contract.json_text import NOT_JSON, repaired_json


def decoder_of(kind: type[Any]) -> Callable[[StreamMessage[Any]], Awaitable[Any]]:
    """Return a decoder of JSON bodies into `kind`; it raises `InvalidRequest` for other bodies."""
    # No limit on digits: a request may contain many messages, each of which was checked alone.
    decode = decoder(kind, max_digits=math.inf)

    async def decode_body(message: StreamMessage[Any]) -> Any:
        try:
            return decode(repaired_json(message.body) or b"{}")
        except NOT_JSON as error:
            raise InvalidRequest(str(error)) from error

    return decode_body

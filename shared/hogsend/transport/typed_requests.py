"""Encodes requests to the endpoints of services, and decodes their replies."""

from __future__ import annotations

from typing import Any

import msgspec
from nats.aio.msg import Msg
from nats.micro.request import ERROR_CODE_HEADER, ERROR_HEADER

from hogsend.contract.errors import InvalidRequest, UnreadableReply, from_code
from hogsend.contract.json_text import NOT_JSON, encode_json
from hogsend.contract.registry import Endpoint, Reply


def encode_request(message: msgspec.Struct) -> bytes:
    """Encode a request as JSON.

    Raises:
        InvalidRequest: a value in it cannot be encoded as JSON.
    """
    try:
        return encode_json(message)
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(str(error)) from error


def read_reply(endpoint: Endpoint[Any, Reply], reply: Msg) -> Reply:
    """Decode the reply of a service.

    Raises:
        HogsendError: the typed error that the service replied with.
        UnreadableReply: the reply is not of the endpoint's reply type.
    """
    if reply.headers and ERROR_CODE_HEADER in reply.headers:
        raise from_code(reply.headers[ERROR_CODE_HEADER], reply.headers.get(ERROR_HEADER, ""))
    try:
        return msgspec.json.decode(reply.data, type=endpoint.reply)
    except NOT_JSON:
        # Without msgspec's text and traceback: both may quote a reply that contains a secret.
        raise UnreadableReply(
            f"the {endpoint.service} service answered {endpoint.subject} in a shape that is "
            "not known here; does it run another version?"
        ) from None

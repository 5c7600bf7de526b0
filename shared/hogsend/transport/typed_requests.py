"""Requests to services by their endpoint: what is written, and what an answer says."""

from __future__ import annotations

from typing import Any

import msgspec
from nats.aio.msg import Msg
from nats.micro.request import ERROR_CODE_HEADER, ERROR_HEADER

from hogsend.contract.errors import InvalidRequest, UnreadableReply, from_code
from hogsend.contract.json_text import NOT_JSON, encode_json
from hogsend.contract.registry import Endpoint, Reply


def encode_request(message: msgspec.Struct) -> bytes:
    """Write a request as JSON.

    Raises:
        InvalidRequest: something in it is no JSON.
    """
    try:
        return encode_json(message)
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(str(error)) from error


def read_reply(endpoint: Endpoint[Any, Reply], answer: Msg) -> Reply:
    """Read what a service answered.

    Raises:
        HogsendError: the typed error that it answered with.
        UnreadableReply: the answer has another shape than the endpoint's reply.
    """
    if answer.headers and ERROR_CODE_HEADER in answer.headers:
        raise from_code(answer.headers[ERROR_CODE_HEADER], answer.headers.get(ERROR_HEADER, ""))
    try:
        return msgspec.json.decode(answer.data, type=endpoint.reply)
    except NOT_JSON:
        # Without msgspec's words and its traceback: both may quote a reply that holds a secret.
        raise UnreadableReply(
            f"the {endpoint.service} service answered {endpoint.subject} in a shape that is "
            "not known here; does it run another version?"
        ) from None

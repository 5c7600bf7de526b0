"""Which consumers other people's services may create and delete: those that affect no one else.

A request is decoded, checked and encoded again. So JetStream receives nothing that was not checked.
"""

from __future__ import annotations

import re
import secrets
from typing import Any

import msgspec

from hogsend.contract.consumers import EXTERNAL_STREAMS, EXTERNAL_USERS, reserved
from hogsend.contract.json_text import NOT_JSON
from hogsend.contract.permissions import inbox_prefix
from hogsend.contract.streams import StreamName
from services.ingest.consumer_api.messages import DAY, Config, ConsumerRequest, Creation, Deletion
from services.ingest.replay.filters import (
    catches_replays,
    filters_of,
    names_replays,
    set_filters,
    without_copies,
)

MAX_CONSUMERS = 1000
"""Most consumers of one stream. Each takes memory, and the server matches every message with it."""
MAX_ACK_PENDING = 20_000
"""Most unacknowledged messages of one consumer, which the server keeps in memory.

A request for more gets this limit instead of a refusal: `PullSubscribe` and `SubscribeSync` of
nats.go set `max_ack_pending` to 65,536 by default.
"""
MAX_BODY_BYTES = 64 * 1024

_NAME = re.compile(r"[^\s.*>/\\\x00-\x1f\x7f]{1,255}")
_SUBJECT = re.compile(r"[^\s\x00-\x1f\x7f]{1,1000}")
_LITERAL = re.compile(r"[^\s*>\x00-\x1f\x7f]{1,500}")
_MAYBE_RANDOM = re.compile(r"[A-Za-z0-9]{16,}")
"""Part of a name that a client library may have generated at random."""

_LETTERS_OF_EACH_CASE = 5
"""A name without digits and with so many letters of each case is random, as NATS' NUIDs are: words
written together in camelCase have fewer."""

BAD_REQUEST, TOO_MANY_CONSUMERS = 10003, 10026
"""JetStream's own error codes."""


class Refused(Exception):
    """A request that is refused instead of passed on to JetStream."""

    def __init__(self, description: str, *, code: int = 403, err_code: int = BAD_REQUEST) -> None:
        super().__init__(description)
        self.description = description
        self.code = code
        self.err_code = err_code


def read(subject: str, body: bytes) -> Creation | Deletion:
    """Read and check a request.

    Args:
        subject: the part of its subject after `hogsend.consumers.`.
        body: its body.

    Raises:
        Refused: the request does not exist here, or is not permitted.
    """
    match subject.split("."):
        case ["CREATE", stream, *rest]:
            name = rest[0] if rest else None
            return _creation(_stream(stream), name, ".".join(rest[1:]), body)
        case ["DURABLE", "CREATE", stream, name]:
            return _creation(_stream(stream), name, "", body)
        case ["DELETE", stream, name]:
            return _deletion(_stream(stream), name)
    raise Refused("there is no such request", code=404)


def _stream(name: str) -> StreamName:
    for stream in EXTERNAL_STREAMS:
        if name == stream:
            return stream
    raise Refused(f"consumers of {name!r} are not created here")


def _creation(
    stream: StreamName, subject_name: str | None, subject_filter: str, body: bytes
) -> Creation:
    if len(body) > MAX_BODY_BYTES:
        raise Refused(f"a consumer's configuration has at most {MAX_BODY_BYTES} bytes", code=400)
    try:
        request = msgspec.json.decode(body, type=ConsumerRequest)
    except NOT_JSON as error:
        raise Refused(f"this consumer is not allowed: {error}", code=400) from error
    if request.action == "update":
        raise Refused("only an operator changes a consumer; use another name")
    config = request.config
    if request.stream_name != stream:
        raise Refused("the request's subject and body name two streams", code=400)
    name = _name(config, subject_name)
    if name in reserved(stream):
        raise Refused(f"the consumer {name!r} of {stream} is Hogsend's own")
    if config.name is None:
        config.name = name
    _check_subjects(config, subject_filter)
    if config.max_ack_pending is not None:
        config.max_ack_pending = min(config.max_ack_pending, MAX_ACK_PENDING)
    if config.durable_name is None and (config.inactive_threshold or 0) > DAY:
        raise Refused("a consumer that is not durable is kept idle for a day at most")
    requested_filters = config.filters
    if stream is StreamName.EVENTS:
        _exclude_copies(config)
    # If a consumer of this name has another configuration, JetStream replies "already exists".
    request.action = "create"
    return Creation(stream, name, request, requested_filters)


def _exclude_copies(config: Config) -> None:
    """Replace filters that match copies of a replay, which are for one durable alone."""
    fields: dict[str, Any] = {
        "filter_subject": config.filter_subject,
        "filter_subjects": config.filter_subjects,
    }
    filters = filters_of(fields)
    if any(map(names_replays, filters)):
        raise Refused("replayed events are delivered to their durable only, without a filter")
    if any(map(catches_replays, filters)):
        set_filters(fields, without_copies(filters))
        config.filter_subject = fields.get("filter_subject")
        config.filter_subjects = fields.get("filter_subjects")


def _name(config: Config, subject_name: str | None) -> str:
    names = {name for name in (config.name, config.durable_name, subject_name) if name}
    if len(names) > 1:
        raise Refused("the request has several names for one consumer", code=400)
    # Generated here: names that the server generates have only 8 characters.
    (name,) = names or {secrets.token_hex(11)}
    if _NAME.fullmatch(name) is None:
        raise Refused(f"{name!r} is not the name of a consumer", code=400)
    return name


def _check_subjects(config: Config, subject_filter: str) -> None:
    for subject in (config.filter_subject, *(config.filter_subjects or ())):
        if subject and _SUBJECT.fullmatch(subject) is None:
            raise Refused("a filter is not a subject", code=400)
    if subject_filter and subject_filter != config.filter_subject:
        raise Refused("the request's subject and body have two filters", code=400)
    if config.deliver_subject and not _is_inbox(config.deliver_subject):
        inboxes = ", ".join(f"{inbox_prefix(user)}.>" for user in EXTERNAL_USERS)
        raise Refused(
            f"deliver_subject must be below one of {inboxes}: give your client the inbox prefix "
            "of its NATS user"
        )


def _is_inbox(subject: str) -> bool:
    below = any(subject.startswith(f"{inbox_prefix(user)}.") for user in EXTERNAL_USERS)
    return below and _LITERAL.fullmatch(subject) is not None


def _deletion(stream: StreamName, name: str) -> Deletion:
    # A service could guess the name of another's consumer unless it is random. The server deletes
    # consumers that are not durable by itself when they are idle.
    if name in reserved(stream) or not any(map(_is_random, _MAYBE_RANDOM.findall(name))):
        raise not_deleted(name)
    return Deletion(stream, name)


def _is_random(part: str) -> bool:
    upper, lower = sum(map(str.isupper, part)), sum(map(str.islower, part))
    return any(map(str.isdigit, part)) or min(upper, lower) >= _LETTERS_OF_EACH_CASE


def not_deleted(name: str) -> Refused:
    """The error for a consumer that only an operator deletes."""
    return Refused(
        f"only an operator deletes the consumer {name!r}, with `hogsend consumers delete`; "
        "NATS deletes one that is not durable when it is idle"
    )

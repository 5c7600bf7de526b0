"""Which consumers other people's services may create and delete: those that affect no one else.

A request is decoded, checked and encoded again. So JetStream receives nothing that was not checked.
Durations are in nanoseconds, as in JetStream's API.
"""

from __future__ import annotations

import re
import secrets
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

from hogsend.contract import subjects
from hogsend.contract.consumers import EXTERNAL_STREAMS, EXTERNAL_USERS, reserved
from hogsend.contract.json_text import NOT_JSON
from hogsend.contract.permissions import inbox_prefix
from hogsend.contract.streams import StreamName
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

_DAY = 24 * 60 * 60 * 10**9
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

Count: TypeAlias = Annotated[int, Meta(ge=-1)]
Duration: TypeAlias = Annotated[int, Meta(ge=0, le=365 * _DAY)]
Text: TypeAlias = Annotated[str, Meta(max_length=4096)]


class Refused(Exception):
    """A request that is refused instead of passed on to JetStream."""

    def __init__(self, description: str, *, code: int = 403, err_code: int = BAD_REQUEST) -> None:
        super().__init__(description)
        self.description = description
        self.code = code
        self.err_code = err_code


class Config(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The fields of a consumer's configuration that may be set, with limits (NATS ADR-15, ADR-37).

    A request with any other field is refused: the field might affect other services.
    """

    name: Text | None = None
    durable_name: Text | None = None
    description: Text | None = None
    metadata: Annotated[dict[Text, Text], Meta(max_length=32)] | None = None
    deliver_policy: (
        Literal[
            "all",
            "last",
            "new",
            "by_start_sequence",
            "by_start_time",
            "last_per_subject",
        ]
        | None
    ) = None
    opt_start_seq: Annotated[int, Meta(ge=0)] | None = None
    opt_start_time: Text | None = None
    ack_policy: Literal["none", "all", "explicit"] | None = None
    ack_wait: Duration | None = None
    max_deliver: Count | None = None
    backoff: Annotated[list[Duration], Meta(max_length=100)] | None = None
    filter_subject: Text | None = None
    filter_subjects: Annotated[list[Text], Meta(max_length=256)] | None = None
    replay_policy: Literal["instant", "original"] | None = None
    rate_limit_bps: Annotated[int, Meta(ge=0)] | None = None
    sample_freq: Text | None = None
    max_waiting: Annotated[int, Meta(ge=0, le=4096)] | None = None
    max_ack_pending: Annotated[int, Meta(ge=0)] | None = None
    headers_only: bool | None = None
    max_batch: Count | None = None
    max_expires: Duration | None = None
    max_bytes: Count | None = None
    deliver_subject: Text | None = None
    deliver_group: Text | None = None
    flow_control: bool | None = None
    idle_heartbeat: Duration | None = None
    inactive_threshold: Duration | None = None
    num_replicas: Annotated[int, Meta(ge=0, le=5)] | None = None
    mem_storage: bool | None = None
    pause_until: Text | None = None
    priority_groups: Annotated[list[Text], Meta(max_length=16)] | None = None
    priority_policy: Text | None = None
    priority_timeout: Duration | None = None


class ConsumerRequest(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The body of a request for a consumer."""

    stream_name: str
    config: Config
    action: Literal["", "create", "update"] = ""
    pedantic: bool = False


class Creation(msgspec.Struct, frozen=True):
    """A permitted request to create a consumer, unless it exists."""

    stream: StreamName
    name: str
    request: ConsumerRequest
    requested_filters: frozenset[str]
    """The filters before those that match copies of a replay were replaced."""
    has_name: bool = True
    """Whether the configuration has a `name`, and not only a `durable_name`."""

    @property
    def is_durable(self) -> bool:
        """Whether the consumer is durable. A replay may have changed its filters then."""
        return bool(self.request.config.durable_name)

    @property
    def subject(self) -> str:
        """The subject of the request to JetStream, after `CONSUMER.`."""
        if not self.has_name:
            # With any other request the server sets the name.
            return f"DURABLE.CREATE.{self.stream}.{self.name}"
        subject = f"CREATE.{self.stream}.{self.name}"
        # The server checks that the last part is the filter.
        single = self.request.config.filter_subject
        return f"{subject}.{single}" if single else subject

    @property
    def body(self) -> bytes:
        """The body of the request to JetStream."""
        return msgspec.json.encode(self.request)

    def without_name(self) -> Creation:
        """The same request without `name`, for a durable that an older client created without it.

        If only one of them has a `name`, nats-server 2.11 takes them for two different consumers.
        """
        config = msgspec.structs.replace(self.request.config, name=None)
        request = msgspec.structs.replace(self.request, config=config)
        return msgspec.structs.replace(self, request=request, has_name=False)

    def with_filters_of(self, single: str | None, several: list[str] | None) -> Creation:
        """The same request with the filters of the existing consumer, if a replay changed them.

        JetStream would refuse the filters that the client requests: they are different now.

        Args:
            single: `filter_subject` of the existing consumer.
            several: its `filter_subjects`.
        """
        existing = Config(filter_subject=single, filter_subjects=several)
        filters = _filters(existing) - subjects.replays_of(self.name)
        if filters not in {self.requested_filters, _filters(self.request.config)}:
            return self
        config = msgspec.structs.replace(
            self.request.config, filter_subject=single or None, filter_subjects=several or None
        )
        request = msgspec.structs.replace(self.request, config=config)
        return msgspec.structs.replace(self, request=request)


class Deletion(msgspec.Struct, frozen=True):
    """A permitted request to delete a consumer, if it is not durable."""

    stream: StreamName
    name: str


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
    if config.durable_name is None and (config.inactive_threshold or 0) > _DAY:
        raise Refused("a consumer that is not durable is kept idle for a day at most")
    requested_filters = _filters(config)
    if stream is StreamName.EVENTS:
        _exclude_copies(config)
    # If a consumer of this name has another configuration, JetStream replies "already exists".
    request.action = "create"
    return Creation(stream, name, request, requested_filters)


def _filters(config: Config) -> frozenset[str]:
    fields = {"filter_subject": config.filter_subject, "filter_subjects": config.filter_subjects}
    return frozenset(filters_of(fields))


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

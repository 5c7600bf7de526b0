"""What other people's services may ask for: consumers that concern themselves alone.

A request is taken apart and written anew, so that JetStream cannot read anything else in it than
what was looked at. Durations are in nanoseconds, as in JetStream's API.
"""

from __future__ import annotations

import re
import secrets
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

from hogsend.contract import subjects
from hogsend.contract.consumers import OTHERS, STREAMS_OF_OTHERS, reserved
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
"""Consumers of one stream; each costs the server memory and every message a look."""
MAX_BODY_BYTES = 64 * 1024

_DAY = 24 * 60 * 60 * 10**9
_NAME = re.compile(r"[^\s.*>/\\\x00-\x1f\x7f]{1,255}")
_SUBJECT = re.compile(r"[^\s\x00-\x1f\x7f]{1,1000}")
_LITERAL = re.compile(r"[^\s*>\x00-\x1f\x7f]{1,500}")
_DRAWN = re.compile(r"[A-Za-z0-9]{16,}")
"""Part of a name that a client has drawn at random, as their libraries do."""

_LETTERS_OF_EACH_CASE = 5
"""More than words written together have; NATS' own names (NUID) without a digit have them."""

BAD_REQUEST, TOO_MANY_CONSUMERS = 10003, 10026
"""JetStream's own error codes."""

Count: TypeAlias = Annotated[int, Meta(ge=-1)]
Duration: TypeAlias = Annotated[int, Meta(ge=0, le=365 * _DAY)]
Text: TypeAlias = Annotated[str, Meta(max_length=4096)]


class Refused(Exception):
    """A request that is not passed on."""

    def __init__(self, description: str, *, code: int = 403, err_code: int = BAD_REQUEST) -> None:
        super().__init__(description)
        self.description = description
        self.code = code
        self.err_code = err_code


class Config(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A consumer's configuration, with what may be asked for and how much (NATS ADR-15, ADR-37).

    What is not listed is refused: it may be something that concerns others.
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
    max_ack_pending: Annotated[int, Meta(ge=0, le=20_000)] | None = None
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


class Asked(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The body of a request for a consumer."""

    stream_name: str
    config: Config
    action: Literal["", "create", "update"] = ""
    pedantic: bool = False


class Creation(msgspec.Struct, frozen=True):
    """A consumer that may be made unless it exists."""

    stream: StreamName
    name: str
    asked: Asked
    filters_as_asked: frozenset[str]
    """Before those that catch copies for a durable were replaced."""
    has_name: bool = True
    """Whether the configuration has a `name`, besides that of the durable."""

    @property
    def is_durable(self) -> bool:
        """Whether it may have been changed since its owner made it."""
        return bool(self.asked.config.durable_name)

    @property
    def subject(self) -> str:
        """Below `CONSUMER.` of JetStream's API."""
        if not self.has_name:
            # Any other request gives it one.
            return f"DURABLE.CREATE.{self.stream}.{self.name}"
        subject = f"CREATE.{self.stream}.{self.name}"
        # The server checks that the last part is the filter.
        single = self.asked.config.filter_subject
        return f"{subject}.{single}" if single else subject

    @property
    def body(self) -> bytes:
        """What JetStream is asked."""
        return msgspec.json.encode(self.asked)

    def unnamed(self) -> Creation:
        """The same durable as one that was made without `name`, as older clients do.

        With it, nats-server 2.11 takes it for another one.
        """
        config = msgspec.structs.replace(self.asked.config, name=None)
        asked = msgspec.structs.replace(self.asked, config=config)
        return msgspec.structs.replace(self, asked=asked, has_name=False)

    def like(self, single: str | None, several: list[str] | None) -> Creation:
        """The same consumer as one that exists, if only a replay has changed its filters since."""
        existing = Config(filter_subject=single, filter_subjects=several)
        filters = _filters(existing) - subjects.replays_of(self.name)
        if filters not in {self.filters_as_asked, _filters(self.asked.config)}:
            return self
        config = msgspec.structs.replace(
            self.asked.config, filter_subject=single or None, filter_subjects=several or None
        )
        asked = msgspec.structs.replace(self.asked, config=config)
        return msgspec.structs.replace(self, asked=asked)


class Deletion(msgspec.Struct, frozen=True):
    """A consumer that may be deleted if it is not durable."""

    stream: StreamName
    name: str


def read(subject: str, body: bytes) -> Creation | Deletion:
    """Read a request; `subject` is what follows `hogsend.consumers.`.

    Raises:
        Refused: it is none of ours, or asks for what others may not have.
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
    for stream in STREAMS_OF_OTHERS:
        if name == stream:
            return stream
    raise Refused(f"consumers of {name!r} are not created here")


def _creation(stream: StreamName, named: str | None, filtered: str, body: bytes) -> Creation:
    if len(body) > MAX_BODY_BYTES:
        raise Refused(f"a consumer's configuration has at most {MAX_BODY_BYTES} bytes", code=400)
    try:
        asked = msgspec.json.decode(body, type=Asked)
    except NOT_JSON as error:
        raise Refused(f"this consumer is not allowed: {error}", code=400) from error
    if asked.action == "update":
        raise Refused("only an operator changes a consumer; use another name")
    config = asked.config
    if asked.stream_name != stream:
        raise Refused("the request's subject and body name two streams", code=400)
    name = _name(config, named)
    if name in reserved(stream):
        raise Refused(f"the consumer {name!r} of {stream} is Hogsend's own")
    if config.name is None:
        config.name = name
    _check_subjects(config, filtered)
    if config.durable_name is None and (config.inactive_threshold or 0) > _DAY:
        raise Refused("a consumer that is not durable is kept idle for a day at most")
    filters_as_asked = _filters(config)
    if stream is StreamName.EVENTS:
        _leave_replays_out(config)
    # One of that name with another configuration is JetStream's own "consumer already exists".
    asked.action = "create"
    return Creation(stream, name, asked, filters_as_asked)


def _filters(config: Config) -> frozenset[str]:
    fields = {"filter_subject": config.filter_subject, "filter_subjects": config.filter_subjects}
    return frozenset(filters_of(fields))


def _leave_replays_out(config: Config) -> None:
    """Have a consumer that reads everything do so by name, without what one durable gets again."""
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


def _name(config: Config, named: str | None) -> str:
    names = {name for name in (config.name, config.durable_name, named) if name}
    if len(names) > 1:
        raise Refused("the request has several names for one consumer", code=400)
    # Drawn here rather than by the server, whose names have 8 characters.
    (name,) = names or {secrets.token_hex(11)}
    if _NAME.fullmatch(name) is None:
        raise Refused(f"{name!r} is not the name of a consumer", code=400)
    return name


def _check_subjects(config: Config, filtered: str) -> None:
    for subject in (config.filter_subject, *(config.filter_subjects or ())):
        if subject and _SUBJECT.fullmatch(subject) is None:
            raise Refused("a filter is not a subject", code=400)
    if filtered and filtered != config.filter_subject:
        raise Refused("the request's subject and body have two filters", code=400)
    if config.deliver_subject and not _is_inbox(config.deliver_subject):
        inboxes = ", ".join(f"{inbox_prefix(user)}.>" for user in OTHERS)
        raise Refused(
            f"deliver_subject must be below one of {inboxes}: give your client the inbox prefix "
            "of its NATS user"
        )


def _is_inbox(subject: str) -> bool:
    below = any(subject.startswith(f"{inbox_prefix(user)}.") for user in OTHERS)
    return below and _LITERAL.fullmatch(subject) is not None


def _deletion(stream: StreamName, name: str) -> Deletion:
    # Another's name could be guessed; what is not deleted goes by itself once it is idle.
    if name in reserved(stream) or not any(map(_looks_drawn, _DRAWN.findall(name))):
        raise not_deleted(name)
    return Deletion(stream, name)


def _looks_drawn(part: str) -> bool:
    upper, lower = sum(map(str.isupper, part)), sum(map(str.islower, part))
    return any(map(str.isdigit, part)) or min(upper, lower) >= _LETTERS_OF_EACH_CASE


def not_deleted(name: str) -> Refused:
    """The error for a consumer that only an operator deletes."""
    return Refused(
        f"only an operator deletes the consumer {name!r}, with `hogsend consumers delete`; one "
        "that is not durable goes by itself once it is idle"
    )

"""The requests of JetStream's consumer API: their body, and the permitted ones that are passed on.

Durations are in nanoseconds, as in JetStream's API.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from hogsend.contract import subjects
from hogsend.contract.streams import StreamName
from services.ingest.replay.filters import filters_of

DAY = 24 * 60 * 60 * 10**9

Count: TypeAlias = Annotated[int, Meta(ge=-1)]
Duration: TypeAlias = Annotated[int, Meta(ge=0, le=365 * DAY)]
Text: TypeAlias = Annotated[str, Meta(max_length=4096)]


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

    @property
    def filters(self) -> frozenset[str]:
        """The filters as a set; without any it is `>`, as the consumer reads everything then."""
        fields = {"filter_subject": self.filter_subject, "filter_subjects": self.filter_subjects}
        return frozenset(filters_of(fields))


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
        filters = existing.filters - subjects.replays_of(self.name)
        if filters not in {self.requested_filters, self.request.config.filters}:
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

"""Replies to the part of JetStream's API that is mapped to ingest, in JetStream's own format."""

from __future__ import annotations

import msgspec
import nats.errors
import structlog

from hogsend.contract.consumers import API, OWN_API
from hogsend.contract.errors import Forbidden
from hogsend.contract.streams import StreamName
from hogsend.service import metrics as shared_metrics
from hogsend.transport.connection import Connection
from hogsend.transport.jetstream import MANAGEMENT_SECONDS
from hogsend.transport.jetstream_error import JetStreamError
from services.ingest import metrics
from services.ingest.consumer_api.messages import Creation, Deletion
from services.ingest.consumer_api.policy import (
    MAX_CONSUMERS,
    TOO_MANY_CONSUMERS,
    Refused,
    not_deleted,
    read,
)

_TYPE = "io.nats.jetstream.api.v1.consumer_{verb}_response"
_UNAVAILABLE = 10008
"""JetStream's code for "temporarily unavailable"."""

log = structlog.get_logger(__name__)


class _Failure(msgspec.Struct, frozen=True):
    """A reply of JetStream's API that reports an error (NATS ADR-1)."""

    type: str
    error: JetStreamError


class _Info(msgspec.Struct, frozen=True):
    """The fields that are read of JetStream's information about a stream or a consumer."""

    class Config(msgspec.Struct, frozen=True):
        name: str = ""
        durable_name: str = ""
        filter_subject: str | None = None
        filter_subjects: list[str] | None = None

    class State(msgspec.Struct, frozen=True):
        consumer_count: int = 0

    config: Config = Config()
    state: State = State()
    error: JetStreamError | None = None


class ConsumerRequests:
    """Creates and deletes consumers for other people's services, if `policy` permits it."""

    def __init__(self, link: Connection) -> None:
        """Send requests to JetStream over `link`, as the NATS user of ingest."""
        self._link = link

    async def reply_to(self, subject: str, body: bytes) -> bytes:
        """Return the reply to a request.

        Args:
            subject: the part of the request's subject after `hogsend.consumers.`.
            body: its body.
        """
        verb = "delete" if subject.startswith("DELETE.") else "create"
        try:
            match read(subject, body):
                case Creation() as creation:
                    return await self._create(creation)
                case Deletion() as deletion:
                    return await self._delete(deletion)
        except Refused as refused:
            metrics.CONSUMERS_REFUSED.labels(verb).inc()
            log.warning("consumer refused", request=subject, reason=refused.description)
            problem = JetStreamError(refused.code, refused.err_code, refused.description)
        except (nats.errors.Error, TimeoutError, OSError, Forbidden) as error:
            shared_metrics.FAILURES.labels("consumers", type(error).__name__).inc()
            log.warning("the consumer could not be requested", request=subject, reason=str(error))
            problem = JetStreamError(503, _UNAVAILABLE, "JetStream system temporarily unavailable")
        return msgspec.json.encode(_Failure(_TYPE.format(verb=verb), problem))

    async def _create(self, creation: Creation) -> bytes:
        stream = _decoded(await self._request(f"{API}.STREAM.INFO.{creation.stream}"))
        if stream.state.consumer_count >= MAX_CONSUMERS:
            existing = _decoded(await self._info(creation.stream, creation.name))
            if existing.error is not None:
                raise Refused(
                    f"{creation.stream} has {MAX_CONSUMERS} consumers; delete some first",
                    code=400,
                    err_code=TOO_MANY_CONSUMERS,
                )
        if creation.is_durable:
            existing = _decoded(await self._info(creation.stream, creation.name))
            if existing.error is None:
                config = existing.config
                creation = creation.with_filters_of(config.filter_subject, config.filter_subjects)
                if not config.name:
                    creation = creation.without_name()
        return await self._request(f"{OWN_API}.CONSUMER.{creation.subject}", creation.body)

    async def _delete(self, deletion: Deletion) -> bytes:
        existing = _decoded(await self._info(deletion.stream, deletion.name))
        if existing.config.durable_name:
            raise not_deleted(deletion.name)
        return await self._request(f"{OWN_API}.CONSUMER.DELETE.{deletion.stream}.{deletion.name}")

    async def _info(self, stream: StreamName, name: str) -> bytes:
        return await self._request(f"{API}.CONSUMER.INFO.{stream}.{name}")

    async def _request(self, subject: str, body: bytes = b"") -> bytes:
        return (await self._link.request_raw(subject, body, seconds=MANAGEMENT_SECONDS)).data


def _decoded(reply: bytes) -> _Info:
    return msgspec.json.decode(reply, type=_Info)

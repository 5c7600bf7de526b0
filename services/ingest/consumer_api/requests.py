"""Answers the part of JetStream's API that is mapped to ingest, with JetStream's own answers."""

from __future__ import annotations

import msgspec
import nats.errors
import structlog

from hogsend.contract.consumers import API, OWN_API
from hogsend.contract.errors import Forbidden
from hogsend.contract.streams import StreamName
from hogsend.service import metrics as shared_metrics
from hogsend.transport.connection import MANAGEMENT_SECONDS, Connection
from hogsend.transport.jetstream_error import JetStreamError
from services.ingest import metrics
from services.ingest.consumer_api.policy import (
    MAX_CONSUMERS,
    TOO_MANY_CONSUMERS,
    Creation,
    Deletion,
    Refused,
    not_deleted,
    read,
)

_TYPE = "io.nats.jetstream.api.v1.consumer_{verb}_response"
_UNAVAILABLE = 10008
"""JetStream's code for "temporarily unavailable"."""

log = structlog.get_logger(__name__)


class _Failure(msgspec.Struct, frozen=True):
    """A failed answer of JetStream's API (NATS ADR-1)."""

    type: str
    error: JetStreamError


class _Found(msgspec.Struct, frozen=True):
    """What is looked at of a stream or a consumer."""

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
    """Makes and deletes consumers for others, as far as `policy` goes."""

    def __init__(self, link: Connection) -> None:
        """Ask JetStream over `link`, as ingest."""
        self._link = link

    async def answer(self, subject: str, body: bytes) -> bytes:
        """Answer a request; `subject` is what follows `hogsend.consumers.`."""
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
        stream = _decoded(await self._ask(f"{API}.STREAM.INFO.{creation.stream}"))
        if stream.state.consumer_count >= MAX_CONSUMERS:
            existing = _decoded(await self._info(creation.stream, creation.name))
            if existing.error is not None:
                raise Refused(
                    f"{creation.stream} has {MAX_CONSUMERS} consumers; delete some first",
                    code=400,
                    err_code=TOO_MANY_CONSUMERS,
                )
        if creation.is_durable:
            found = _decoded(await self._info(creation.stream, creation.name))
            if found.error is None:
                creation = creation.like(found.config.filter_subject, found.config.filter_subjects)
                if not found.config.name:
                    creation = creation.unnamed()
        return await self._ask(f"{OWN_API}.CONSUMER.{creation.subject}", creation.body)

    async def _delete(self, deletion: Deletion) -> bytes:
        found = _decoded(await self._info(deletion.stream, deletion.name))
        if found.config.durable_name:
            raise not_deleted(deletion.name)
        return await self._ask(f"{OWN_API}.CONSUMER.DELETE.{deletion.stream}.{deletion.name}")

    async def _info(self, stream: StreamName, name: str) -> bytes:
        return await self._ask(f"{API}.CONSUMER.INFO.{stream}.{name}")

    async def _ask(self, subject: str, body: bytes = b"") -> bytes:
        return (await self._link.request_raw(subject, body, seconds=MANAGEMENT_SECONDS)).data


def _decoded(answer: bytes) -> _Found:
    return msgspec.json.decode(answer, type=_Found)

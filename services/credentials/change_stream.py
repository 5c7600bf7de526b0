"""The JetStream stream on which credential changes are published."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import NamedTuple

import msgspec
import structlog
from cachetools import LRUCache

from hogsend.contract import subjects
from hogsend.contract.consumers import API
from hogsend.contract.credentials import CredentialChanged
from hogsend.contract.errors import Forbidden, PublishRejected, TooLarge, Unavailable
from hogsend.contract.headers import message_headers
from hogsend.contract.json_text import NOT_JSON
from hogsend.contract.streams import StreamName
from hogsend.service.metrics import FAILURES
from hogsend.transport.connection import Connection
from hogsend.transport.errors import UNREACHABLE
from hogsend.transport.jetstream_error import NO_MESSAGE_FOUND, JetStreamError, WrongLastSequence
from hogsend.transport.publisher import EXPECTED_LAST, OutgoingMessage

ANSWER_SECONDS = 5.0
KNOWN_PROVIDERS = 1000
"""Providers of which this process remembers where in the stream its last change is."""

_GET = f"{API}.STREAM.MSG.GET.{StreamName.CREDENTIALS}"

log = structlog.get_logger(__name__)


class _Kept(msgspec.Struct, frozen=True):
    data: bytes = b""


class _Answer(msgspec.Struct, frozen=True):
    """JetStream's answer about the last message of a subject."""

    message: _Kept | None = None
    error: JetStreamError | None = None


class _Published(NamedTuple):
    """A change that this process has published, and where it is in the stream."""

    version: int
    sequence: int


class JetStreamChanges:
    """Publishes to `hogsend.credentials.<provider>.changed`; see `change_relay.ChangeStream`."""

    def __init__(self, connection: Connection) -> None:
        """Publish on `connection`, which may be opened later."""
        self._connection = connection
        self._again = ""
        self._last_published: LRUCache[str, _Published] = LRUCache(KNOWN_PROVIDERS)

    async def publish(self, change: CredentialChanged) -> None:
        """Publish a change and wait until JetStream has it."""
        sequence = await self._publish(change, {})
        self._last_published[change.provider] = _Published(change.version, sequence)

    async def publish_next(self, change: CredentialChanged) -> bool:
        """Publish a change if JetStream confirms that the one before it was this process's."""
        last = self._last_published.get(change.provider)
        if last is None or change.version <= last.version:
            # Two changes of this process may overtake each other between the commit and here.
            return False
        try:
            sequence = await self._publish(change, {EXPECTED_LAST: str(last.sequence)})
        except WrongLastSequence:
            self._last_published.pop(change.provider, None)
            return False
        self._last_published[change.provider] = _Published(change.version, sequence)
        return True

    async def _publish(self, change: CredentialChanged, condition: Mapping[str, str]) -> int:
        message = OutgoingMessage(
            subjects.credential_changed(change.provider),
            msgspec.json.encode(change),
            {
                **message_headers(
                    id=f"credentials:{change.provider}:{change.version}{self._again}",
                    source="credentials",
                    type="credential.changed",
                    time=change.changed_at,
                ),
                **condition,
            },
        )
        try:
            return await self._connection.publisher.publish_and_get_sequence(message)
        except WrongLastSequence:
            raise
        except (PublishRejected, TooLarge) as error:
            # An operator may change the stream; until then the change stays pending.
            raise Unavailable(f"the credential change was not published: {error}") from error

    async def has_lost(self, published: Mapping[str, int]) -> bool:
        """Whether the stream has lost a change; a stream that is missing is made again first."""
        for provider, version in published.items():
            kept = await self._last(subjects.credential_changed(provider))
            if kept.error is not None and kept.error.err_code != NO_MESSAGE_FOUND:
                return False
            # Another replica may have published a newer one meanwhile.
            if _version(kept) < version:
                # JetStream would take the same id for a repeat, and store nothing.
                self._again = f":{secrets.token_hex(4)}"
                return True
        return False

    async def _last(self, subject: str) -> _Answer:
        if not self._connection.connected:
            raise Unavailable("NATS is not connected")
        wanted = msgspec.json.encode({"last_by_subj": subject})
        try:
            answer = await self._connection.request_raw(_GET, wanted, seconds=ANSWER_SECONDS)
        except Forbidden as error:
            # NATS' configuration is that of the version before.
            FAILURES.labels("changes", error.code).inc()
            log.debug("the stream of changes cannot be read", reason=str(error))
            return _Answer(error=JetStreamError(code=403))
        except UNREACHABLE as error:
            raise Unavailable("JetStream does not answer") from error
        return msgspec.json.decode(answer.data, type=_Answer)


def _version(kept: _Answer) -> int:
    if kept.message is None:
        return 0
    try:
        return msgspec.json.decode(kept.message.data, type=CredentialChanged).version
    except NOT_JSON:
        return 0

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

REPLY_SECONDS = 5.0
MAX_PROVIDERS = 1000
"""Limit of providers whose last published change this process remembers."""

_GET = f"{API}.STREAM.MSG.GET.{StreamName.CREDENTIALS}"

log = structlog.get_logger(__name__)


class _StoredMessage(msgspec.Struct, frozen=True):
    data: bytes = b""


class _GetReply(msgspec.Struct, frozen=True):
    """JetStream's reply to a request for the last message of a subject."""

    message: _StoredMessage | None = None
    error: JetStreamError | None = None


class _Published(NamedTuple):
    """Version and stream sequence of a change that this process has published."""

    version: int
    sequence: int


class JetStreamChanges:
    """Publishes to `hogsend.credentials.<provider>.changed`; see `change_relay.ChangeStream`."""

    def __init__(self, connection: Connection) -> None:
        """Publish on `connection`, which may be opened later."""
        self._connection = connection
        self._id_suffix = ""
        """Distinguishes the message ids of changes that are published again after a data loss."""
        self._last_published: LRUCache[str, _Published] = LRUCache(MAX_PROVIDERS)

    async def publish(self, change: CredentialChanged) -> None:
        """Publish a change and wait for JetStream's acknowledgement."""
        sequence = await self._publish(change, {})
        self._last_published[change.provider] = _Published(change.version, sequence)

    async def publish_next(self, change: CredentialChanged) -> bool:
        """Publish a change if this process published the last change in the stream."""
        last = self._last_published.get(change.provider)
        if last is None or change.version <= last.version:
            # Two changes of this process may change their order between the commit and here.
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
                    id=f"credentials:{change.provider}:{change.version}{self._id_suffix}",
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
            # The change stays pending until an operator changes the stream's configuration.
            raise Unavailable(f"the credential change was not published: {error}") from error

    async def has_lost_change(self, published: Mapping[str, int]) -> bool:
        """Whether the stream has lost a provider's last change.

        False while the stream does not exist: the service creates it again first.
        """
        for provider, version in published.items():
            reply = await self._last_message(subjects.credential_changed(provider))
            if reply.error is not None and reply.error.err_code != NO_MESSAGE_FOUND:
                return False
            # Not `!=`: another replica may have published a later version meanwhile.
            if _version(reply) < version:
                # Within the deduplication window JetStream would drop a message with the same id.
                self._id_suffix = f":{secrets.token_hex(4)}"
                return True
        return False

    async def _last_message(self, subject: str) -> _GetReply:
        if not self._connection.connected:
            raise Unavailable("NATS is not connected")
        request = msgspec.json.encode({"last_by_subj": subject})
        try:
            reply = await self._connection.request_raw(_GET, request, seconds=REPLY_SECONDS)
        except Forbidden as error:
            # The permissions in NATS' configuration are those of an earlier version.
            FAILURES.labels("changes", error.code).inc()
            log.debug("the stream of changes cannot be read", reason=str(error))
            return _GetReply(error=JetStreamError(code=403))
        except UNREACHABLE as error:
            raise Unavailable("JetStream does not answer") from error
        return msgspec.json.decode(reply.data, type=_GetReply)


def _version(reply: _GetReply) -> int:
    if reply.message is None:
        return 0
    try:
        return msgspec.json.decode(reply.message.data, type=CredentialChanged).version
    except NOT_JSON:
        return 0

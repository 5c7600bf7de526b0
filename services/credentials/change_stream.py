"""The JetStream stream on which credential changes are published."""

from __future__ import annotations

import msgspec
import nats.errors
import nats.js.errors

from hogsend.contract import subjects
from hogsend.contract.credentials import CredentialChanged
from hogsend.contract.errors import PublishRejected, TooLarge, Unavailable
from hogsend.contract.headers import message_headers
from hogsend.contract.streams import StreamName
from hogsend.service import streams
from hogsend.transport.connection import Connection
from hogsend.transport.publisher import OutgoingMessage


class JetStreamChanges:
    """Publishes to `hogsend.credentials.<provider>.changed`; see `change_relay.ChangeStream`."""

    def __init__(self, connection: Connection) -> None:
        """Publish on `connection`, which may be opened later."""
        self._connection = connection

    async def publish(self, change: CredentialChanged) -> None:
        """Publish a change and wait until JetStream has it."""
        message = OutgoingMessage(
            subjects.credential_changed(change.provider),
            msgspec.json.encode(change),
            message_headers(
                id=f"credentials:{change.provider}:{change.version}",
                source="credentials",
                type="credential.changed",
                time=change.changed_at,
            ),
        )
        try:
            await self._connection.publisher.publish(message)
        except (PublishRejected, TooLarge) as error:
            # An operator may change the stream; until then the change stays pending.
            raise Unavailable(f"the credential change was not published: {error}") from error

    async def is_empty(self) -> bool:
        """Whether JetStream keeps no change; a stream that is missing is not taken for empty."""
        if not self._connection.connected:
            raise Unavailable("NATS is not connected")
        try:
            return await streams.is_empty(self._connection.js, StreamName.CREDENTIALS)
        except nats.js.errors.NotFoundError:
            return False
        except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
            raise Unavailable("JetStream does not answer") from error

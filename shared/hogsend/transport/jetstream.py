"""nats-py's JetStream API, which fails at once where the server refuses permission."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nats.js import JetStreamContext
from nats.js.api import DEFAULT_PREFIX

from hogsend.contract.errors import Forbidden
from hogsend.transport.errors import RequestRefused

if TYPE_CHECKING:
    from hogsend.transport.connection import Connection

MANAGEMENT_SECONDS = 10.0
"""Limit for requests that create or change a stream or consumer: JetStream waits for its disk."""


class FailFastJetStream(JetStreamContext):
    """JetStream's API over one connection.

    The server does not reply to a request that it refuses. nats-py would wait for the whole timeout
    and report JetStream as slow.
    """

    def __init__(self, connection: Connection, *, prefix: str = DEFAULT_PREFIX) -> None:
        """Send requests below `prefix`, once `connection` is open."""
        super().__init__(connection.client, prefix=prefix, timeout=MANAGEMENT_SECONDS)
        self._connection = connection

    async def _api_request(
        self,
        req_subject: str,
        req: bytes = b"",
        timeout: float = MANAGEMENT_SECONDS,  # noqa: ASYNC109 - nats-py has it
    ) -> dict[str, Any]:
        request = super()._api_request(req_subject, req, timeout)
        try:
            return await self._connection.wait_unless_refused(req_subject, request)
        except Forbidden as error:
            raise RequestRefused(str(error)) from error

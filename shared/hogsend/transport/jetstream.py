"""nats-py's JetStream API, which fails at once where the server refuses permission."""

from __future__ import annotations

from typing import Any

from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import DEFAULT_PREFIX

from hogsend.contract.errors import Forbidden
from hogsend.transport.errors import RequestRefused
from hogsend.transport.refusals import Refusals

MANAGEMENT_SECONDS = 10.0
"""Limit for requests that create or change a stream or consumer: JetStream waits for its disk."""


class FailFastJetStream(JetStreamContext):
    """JetStream's API over one connection.

    The server does not reply to a request that it refuses. nats-py would wait for the whole timeout
    and report JetStream as slow.
    """

    def __init__(
        self,
        client: Client,
        refusals: Refusals,
        *,
        prefix: str = DEFAULT_PREFIX,
    ) -> None:
        """Send requests below `prefix` on `client`, which may connect later.

        Args:
            client: sends the requests.
            refusals: of the connection that has this client.
            prefix: of the requests' subjects.
        """
        super().__init__(client, prefix=prefix, timeout=MANAGEMENT_SECONDS)
        self._refusals = refusals

    async def _api_request(
        self,
        req_subject: str,
        req: bytes = b"",
        timeout: float = MANAGEMENT_SECONDS,  # noqa: ASYNC109 - nats-py has it
    ) -> dict[str, Any]:
        request = super()._api_request(req_subject, req, timeout)
        try:
            return await self._refusals.wait_unless_refused(req_subject, request)
        except Forbidden as error:
            raise RequestRefused(str(error)) from error

"""Finds out that the process which received a request is frozen or gone.

A frozen process keeps its connection to NATS, so that its caller gets no "no responders", and would
wait for the whole deadline. The caller cannot see which replica of a service received its request.
So it pings all of them with the id of the request, and each one that runs replies whether it has
that request. A replica that works on it replies as well: pings are handled beside requests.

Nothing is sent during the first `WATCH_SECONDS` of a request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import msgspec
from nats.aio.msg import Msg

from hogsend.contract.discovery import PingedReplica, ping_subject
from hogsend.contract.errors import Unavailable
from hogsend.contract.headers import REQUEST_ID
from hogsend.contract.json_text import NOT_JSON
from hogsend.transport.errors import UNREACHABLE
from hogsend.transport.nats_client import NatsClient
from hogsend.transport.refusals import Refusals

WATCH_SECONDS = 1.0
"""How long a request is unanswered before the first ping, and the interval of further ones."""
SILENT_SECONDS = 2.0
"""How long no replica has to reply that it has the request, until the request counts as lost.

A replica whose event loop is blocked for longer is taken for a frozen one.
"""
PING_SECONDS = 0.5
"""How often the ping is repeated while no replica has the request.

Each interval counts as at most this long towards `SILENT_SECONDS`, even if this process was delayed
itself. A process that was just resumed, or whose event loop was blocked, reads the replies first.
"""

_decoder = msgspec.json.Decoder(PingedReplica)


def is_watched(deadline: float) -> bool:
    """Whether a request with that deadline in seconds would fail later than its watch does."""
    return deadline > WATCH_SECONDS + SILENT_SECONDS


class RequestWatch:
    """Watches one request from its start to its reply."""

    def __init__(
        self,
        client: NatsClient,
        refusals: Refusals,
        *,
        answers_ping: Callable[[], Awaitable[bool]],
        service: str,
        request_id: str,
    ) -> None:
        """Start to watch in `WATCH_SECONDS`.

        Args:
            client: the request is sent with it.
            refusals: of its connection.
            answers_ping: returns whether NATS responds, and first processes what it has sent.
            service: one of its replicas receives the request.
            request_id: header `REQUEST_ID` of the request.
        """
        loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[Unavailable] = loop.create_future()
        """Done once no replica has the request, with the error to raise."""
        self._client = client
        self._refusals = refusals
        self._answers_ping = answers_ping
        self._service = service
        self._headers = {REQUEST_ID: request_id}
        self._start = loop.call_later(WATCH_SECONDS, self._start_pings)
        self._pings: asyncio.Task[None] | None = None
        self._in_progress: asyncio.Future[None] = loop.create_future()
        self._is_service_up = False

    def stop(self) -> None:
        """Stop to watch."""
        self._start.cancel()
        if self._pings is not None:
            self._pings.cancel()

    def _start_pings(self) -> None:
        self._pings = asyncio.create_task(self._ping_until_lost())

    async def _ping_until_lost(self) -> None:
        inbox = self._client.new_inbox()
        try:
            subscription = await self._client.subscribe_inline(inbox, self._receive)
        except UNREACHABLE as error:
            self.lost.set_result(Unavailable(f"NATS cannot be reached: {error}"))
            return
        try:
            while True:
                if not await self._is_request_in_progress(inbox):
                    break
                await asyncio.sleep(WATCH_SECONDS)
        finally:
            # With the connection closed meanwhile, the subscription has ended as well.
            with suppress(*UNREACHABLE):
                await subscription.unsubscribe()
        # A reply that has arrived before the PONG of this is preferred to the error.
        is_nats_up = self._client.is_connected and await self._answers_ping()
        self.lost.set_result(self._error(is_nats_up=is_nats_up))

    async def _is_request_in_progress(self, inbox: str) -> bool:
        """Ping the replicas until one has the request, at most for `SILENT_SECONDS`.

        Returns True also where pings are refused, so that nothing is known.
        """
        client, subject = self._client, ping_subject(self._service)
        if self._refusals.is_ping_refused(subject):
            return True
        self._in_progress = asyncio.get_running_loop().create_future()
        self._is_service_up = False
        answers = {self._in_progress, self._refusals.of(subject)}
        silent, was_connected = 0.0, client.is_connected
        while silent < SILENT_SECONDS:
            if client.is_connected and not was_connected:
                # The replicas may have lost their connections as well.
                silent = 0.0
            was_connected = client.is_connected
            if was_connected:
                with suppress(*UNREACHABLE):
                    await client.publish(subject, reply=inbox, headers=self._headers)
            done, _ = await asyncio.wait(
                answers, timeout=PING_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            if done:
                return True
            silent += PING_SECONDS
        return False

    def _receive(self, message: Msg) -> None:
        # Without a subscriber, the server replies with a status and no body.
        if not message.data:
            return
        try:
            replica = _decoder.decode(message.data)
        except NOT_JSON:
            return
        self._is_service_up = True
        if replica.in_progress is not False and not self._in_progress.done():
            self._in_progress.set_result(None)

    def _error(self, *, is_nats_up: bool) -> Unavailable:
        if not is_nats_up:
            return Unavailable(f"NATS did not answer within {SILENT_SECONDS:g} s")
        if self._is_service_up:
            return Unavailable(
                f"the replica of the {self._service} service that received the request does not "
                "respond; it may still carry it out"
            )
        return Unavailable(
            f"the {self._service} service does not respond; it may still carry out the request"
        )
